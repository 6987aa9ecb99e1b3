// Points of a chart by keyboard: right and left along a line, up and down from line to line, Enter opens, Escape leaves.
const STEPS = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };

function startKeys(id, open) {
  const chart = byId(id);
  const spoken = el("p", { class: "unseen", "aria-live": "polite" });
  let line = -1, place = -1;
  const lines = () => chart.data.map((_, at) => at).filter((at) => chart.data[at].hovertext && chart.data[at].visible !== "legendonly");
  const leave = () => {
    line = place = -1;
    Plotly.Fx.unhover(chart);
    spoken.textContent = "";
  };
  const go = ([down, right]) => {
    const there = lines();
    if (!there.length) return;
    const first = place < 0 || line >= there.length;
    line = first ? 0 : (line + down + there.length) % there.length;
    const points = chart.data[there[line]].x.length;
    place = first ? 0 : Math.min(Math.max(place + right, 0), points - 1);
    Plotly.Fx.hover(chart, [{ curveNumber: there[line], pointNumber: place }]);
    const said = new DOMParser().parseFromString(chart.data[there[line]].hovertext[place].replaceAll("<br>", "; "), "text/html");
    spoken.textContent = said.body.textContent;
  };
  chart.tabIndex = 0;
  chart.after(spoken);
  chart.addEventListener("blur", () => Plotly.Fx.unhover(chart));  // who comes back goes on from the same point
  chart.addEventListener("keydown", (event) => {
    if (event.target !== chart) return;
    if (STEPS[event.key]) go(STEPS[event.key]);
    else if (event.key === "Escape" && place >= 0) leave();
    else if (event.key === "Enter" && place >= 0 && lines()[line] !== undefined) {
      const trace = chart.data[lines()[line]];
      open(trace.customdata[place], trace.x[place]);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
