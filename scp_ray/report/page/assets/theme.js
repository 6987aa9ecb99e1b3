// Colours of the drawings: the page's own, in light, dark and print.
const dark = matchMedia("(prefers-color-scheme: dark)");
let printing = false;

// Okabe and Ito's palette, told apart with any colour vision; the first is the text's own
const PALETTE = ["", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const STROKES = ["", "6 3", "2 2", "6 2 2 2"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star"];

function colours() {
  const style = getComputedStyle(document.documentElement);
  const own = (name) => style.getPropertyValue(name).trim();
  if (printing) return { page: "#ffffff", text: "#1c2128", quiet: "#57606a", line: "#d5dae0", grid: "#e8ebee" };
  return { page: own("--page"), text: own("--text"), quiet: own("--quiet"), line: own("--line"), grid: own("--grid") };
}

function lookOf(place) {
  const colour = PALETTE[place % PALETTE.length] || colours().text;
  const round = Math.floor(place / PALETTE.length) % DASHES.length;
  return { colour, dash: DASHES[round], stroke: STROKES[round], symbol: SYMBOLS[place % SYMBOLS.length] };
}

function faint(colour, alpha) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgba(${red},${green},${blue},${alpha})`;
}

function layoutBase() {
  const { page, text, quiet, line, grid } = colours();
  const axis = { gridcolor: grid, linecolor: line, zerolinecolor: quiet, zerolinewidth: 1, tickcolor: line };
  return {
    paper_bgcolor: page,
    plot_bgcolor: page,
    font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif", size: 13, color: text },
    margin: { l: 72, r: 12, t: 12, b: 56 },
    hovermode: "closest",
    hoverlabel: { bgcolor: page, bordercolor: quiet, font: { color: text, size: 13 }, align: "left" },
    xaxis: { ...axis },
    yaxis: { ...axis, automargin: true },
  };
}

const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
