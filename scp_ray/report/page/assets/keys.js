// Points of a chart by keyboard: right and left along a line, up and down from line to line, Enter opens, Escape leaves.
const STEPS = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };

function startKeys(id, open) {
  const chart = byId(id);
  const spoken = el("p", { class: "unseen", "aria-live": "polite" });
  let line = -1, place = -1;
  let here = null;  // what the spoken point opens
  const lines = () => chart.data.map((_, at) => at).filter((at) => chart.data[at].hovertext && chart.data[at].visible !== "legendonly");
  const leave = () => {
    line = place = -1;
    here = null;
    Plotly.Fx.unhover(chart);
    spoken.textContent = "";
  };
  const go = ([down, right]) => {
    const there = lines();
    if (!there.length) return;
    const trace = here && there.findIndex((at) => chart.data[at].customdata[0] === here.line && chart.data[at].name === here.name);
    const first = !here || trace < 0;  // nothing spoken of yet, or no longer drawn
    line = first ? 0 : (trace + down + there.length) % there.length;
    const points = chart.data[there[line]].x.length;
    place = first ? 0 : Math.min(Math.max(place + right, 0), points - 1);
    const { customdata, x, name } = chart.data[there[line]];
    here = { line: customdata[0], name, opens: [customdata[place], x[place]] };
    Plotly.Fx.hover(chart, [{ curveNumber: there[line], pointNumber: place }]);
    const said = new DOMParser().parseFromString(chart.data[there[line]].hovertext[place].replaceAll("<br>", "; "), "text/html");
    spoken.textContent = said.body.textContent;
  };
  chart.tabIndex = 0;
  chart.after(spoken);
  chart.addEventListener("blur", () => Plotly.Fx.unhover(chart));  // who comes back goes on from the same point
  chart.addEventListener("keydown", (event) => {
    if (event.target !== chart || event.altKey || event.ctrlKey || event.metaKey) return;
    if (STEPS[event.key]) go(STEPS[event.key]);
    else if (event.key === "Escape" && here) leave();
    else if (event.key === "Enter" && here) open(...here.opens);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
