// Points of a chart by keyboard: right and left along a line, up and down from line to line, Enter opens, Escape leaves.
const STEPS = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };

function startKeys(id, open) {
  const chart = byId(id);
  const spoken = el("p", { class: "unseen", "aria-live": "polite" });
  let here = null;  // the spoken point: of which line, at which place, and what it opens
  const lines = () => chart.data.filter((trace) => trace.hovertext && trace.visible !== "legendonly");
  const leave = () => {
    here = null;
    Plotly.Fx.unhover(chart);
    spoken.textContent = "";
  };
  const go = ([down, right]) => {
    const there = lines();
    if (!there.length) return;
    const at = here ? there.findIndex(({ customdata, name }) => customdata[0] === here.first && name === here.name) : -1;
    const trace = at < 0 ? there[0] : there[(at + down + there.length) % there.length];  // a line that has gone: anew
    const place = at < 0 ? 0 : Math.min(Math.max(here.place + right, 0), trace.x.length - 1);
    here = { first: trace.customdata[0], name: trace.name, place, opens: [trace.customdata[place], trace.x[place]] };
    Plotly.Fx.hover(chart, [{ curveNumber: chart.data.indexOf(trace), pointNumber: place }]);
    const said = new DOMParser().parseFromString(trace.hovertext[place].replaceAll("<br>", "; "), "text/html");
    spoken.textContent = said.body.textContent;
  };
  chart.tabIndex = 0;
  chart.after(spoken);
  chart.addEventListener("blur", () => Plotly.Fx.unhover(chart));  // who comes back goes on from the same point
  chart.addEventListener("keydown", (event) => {
    if (event.target !== chart || event.altKey || event.ctrlKey || event.metaKey) return;
    if (STEPS[event.key]) go(STEPS[event.key]);
    else if (event.key === "Escape" && here) leave();
    else if (event.key === "Enter" && here && known(here.opens[0])) open(...here.opens);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
