// Every whole arm in the plane of the sweep's objectives.
function planeHover(points, at, objectives) {
  const lines = [`<b>${shielded(DATA.arms.label[points.arm[at]])}</b>`];
  for (const { name, title } of objectives) {
    const low = points[`${name}_low`][at];
    lines.push(`${title} ${fixed(points[name][at])}` + (known(low) ? ` (${fixed(low)} to ${fixed(points[`${name}_high`][at])})` : ""));
    const floor = points[`${name}_floor_mean`];
    if (floor && known(floor[at])) lines.push(`noise floor of ${title} ${fixed(floor[at])} (${fixed(points[`${name}_floor_low`][at])} to ${fixed(points[`${name}_floor_high`][at])})`);
  }
  lines.push(`${several(points.seeds[at], "seed")}, selected round ${points.rounds[at]}`);
  const marks = ["front", "knee"].filter((mark) => points[mark][at]);
  if (!points.feasible[at]) marks.push("breaks a constraint");
  if (marks.length) lines.push(marks.join(", "));
  return lines.join("<br>") + `<br>${DATA.images}`;
}

const frontColour = () => (printing || !dark.matches ? "#0072B2" : "#56B4E9");

function kinds(points) {
  const { text, quiet } = colours();
  const is = (mark) => (at) => points[mark][at];
  return [
    { name: "dominated", keep: (at) => points.feasible[at] && !points.front[at], marker: { color: faint(quiet, 0.6), symbol: "circle", size: 7 } },
    { name: "breaks a constraint", keep: (at) => !points.feasible[at], marker: { color: quiet, symbol: "x-thin", size: 8, line: { color: quiet, width: 1.5 } } },
    { name: "front", keep: (at) => points.front[at] && !points.knee[at], marker: { color: frontColour(), symbol: "square", size: 10 } },
    { name: "knee", keep: is("knee"), marker: { color: "#D55E00", symbol: "diamond", size: 13, line: { color: text, width: 1 } } },
  ];
}

function bars(points, rows, name, colour) {
  const half = rows.map((at) => (known(points[`${name}_high`][at]) ? points[`${name}_high`][at] - points[name][at] : 0));
  return { type: "data", array: half, visible: half.some((value) => value > 0), thickness: 1, width: 0, color: colour };
}

function drawPlane() {
  const { objectives, points } = DATA.plane;
  const [first, second] = objectives.length > 1 ? objectives : [null, objectives[0]];
  const across = (at) => (first ? points[first.name][at] : at + 1);
  const all = points.arm.map((_, at) => at);
  const { text, quiet } = colours();
  const blue = frontColour();
  const traces = [];
  if (objectives.length === 2) {
    const front = all.filter((at) => points.front[at]).sort((a, b) => across(a) - across(b));
    traces.push({
      x: front.map(across), y: front.map((at) => points[second.name][at]), mode: "lines", hoverinfo: "skip", showlegend: false,
      line: { color: blue, width: 1.5, shape: first.best === "max" ? "vh" : "hv" },
    });
  }
  const floor = points[`${second.name}_floor_mean`];
  if (floor && all.some((at) => known(floor[at]))) {
    traces.push({
      x: all.map(across), y: floor, name: "noise floor of each", mode: "markers", marker: { color: quiet, symbol: "line-ew", size: 8, line: { color: quiet, width: 1.2 } },
      opacity: 0.7, hoverinfo: "skip", visible: all.length <= 60 ? true : "legendonly",
    });
  }
  for (const { name, keep, marker } of kinds(points)) {
    const rows = all.filter(keep);
    if (!rows.length) continue;
    const many = all.length > 60 && name === "dominated";
    traces.push({
      x: rows.map(across), y: rows.map((at) => points[second.name][at]), name, mode: "markers", marker,
      customdata: rows.map((at) => points.arm[at]), hovertext: rows.map((at) => planeHover(points, at, objectives)), hovertemplate: "%{hovertext}<extra></extra>",
      ...(many ? {} : { error_y: bars(points, rows, second.name, faint(quiet, 0.7)), ...(first ? { error_x: bars(points, rows, first.name, faint(quiet, 0.7)) } : {}) }),
    });
  }
  if (first && known(first.before) && known(second.before)) {
    traces.push({ x: [first.before], y: [second.before], name: "before pruning (round 0)", mode: "markers", marker: { color: text, symbol: "star", size: 14 },
      customdata: [null],  // opens nothing
      hovertext: [`before pruning, mean of the base models<br>${first.title} ${fixed(first.before)}<br>${second.title} ${fixed(second.before)}`], hovertemplate: "%{hovertext}<extra></extra>" });
  }
  const better = ({ title, best }) => `${title} (${best === "max" ? "higher" : "lower"} is better)`;
  const layout = { ...layoutBase(), legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 } };
  layout.margin.t = 48;
  Object.assign(layout.xaxis, { title: { text: first ? better(first) : "configuration, in their order" }, zeroline: false });
  Object.assign(layout.yaxis, { title: { text: better(second) }, zeroline: false });
  layout.uirevision = "plane";
  Plotly.react("plane", traces, layout, CONFIG);
  const intervals = points[`${second.name}_low`].some(known);
  byId("plane-note").textContent = `${several(all.length, "arm")} with all of their seeds, each the mean over seeds at the round that ${DATA.select} chose; ${DATA.images}. ` +
    (intervals ? "Bars: 95 % t intervals, seed variance pooled over arms" + (all.length > 60 ? " (of the front alone; hover tells the others). " : ". ") : "No intervals: no arm has a second seed. ") +
    (objectives.length > 2 ? `The front is of ${objectives.map(({ title }) => title).join(", ")} together; the first two are drawn. ` : "") +
    "The front is the best by the same numbers that it is drawn from: its values are optimistic. A click on a point opens its trials; so do the arrow keys and Enter.";
}

function startPlane() {
  if (!DATA.plane) {
    byId("plane").replaceChildren(el("p", {}, "No arm has all of its seeds done yet."));
    byId("plane").style.height = "auto";
    return;
  }
  drawPlane();
  byId("plane").on("plotly_click", (event) => {
    if (known(event.points[0].customdata)) openArm(event.points[0].customdata);
  });
  startKeys("plane", (arm) => openArm(arm));
}
