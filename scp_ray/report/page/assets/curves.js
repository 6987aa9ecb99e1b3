// FATE against the round, one line an arm; arms are shown and hidden by buttons.
const MOST_SHOWN = 8;   // at first
const MOST_LISTED = 60; // buttons at a time; the box finds the others
const MOST_BANDS = 4;   // more on top of each other cannot be read
const rowsOfArm = placesBy(DATA.curves && DATA.curves.arm);
const shownArms = new Set();

function chosen() {
  return { gap: gapOf(byId("gap").value), baseline: byId("baseline").value };
}
const baselineTitle = (name) => (name === "vanilla" ? "the vanilla model of the seed" : "the trial's own round 0");

function hoverOf(arm, at, gap, baseline) {
  const of = (name) => DATA.curves[name][at];
  const fate = `fate_${gap.name}_${baseline}`;
  const spread = (name, sign) => fixed(of(name), 4, sign) + (known(of(`${name}_std`)) ? ` ± ${fixed(of(`${name}_std`))}` : "");
  const lines = [
    `<b>${shielded(DATA.arms.label[arm])}</b>`,
    `round ${of("round")}, ${several(of("seeds"), "seed")}` + (of(`undefined_${fate}`) ? `, FATE undefined in ${of(`undefined_${fate}`)}` : ""),
    `FATE of ${gap.title} ${spread(fate, true)}`,
    `F1 ${spread("f1")}`,
    `${gap.title} ${spread(gap.name)}`,
  ];
  if (known(of(`${gap.name}_floor_mean`))) {
    lines.push(`noise floor ${fixed(of(`${gap.name}_floor_mean`))} (${fixed(of(`${gap.name}_floor_low`))} to ${fixed(of(`${gap.name}_floor_high`))}), p ${fixed(of(`${gap.name}_p`), 3)}`);
  }
  if (DATA.curves.channels_left && known(of("channels_left"))) lines.push(`channels left ${fixed(of("channels_left"), null)}`);
  return lines.join("<br>") + `<br>${DATA.images}`;
}

function curveTraces(arm) {
  const { gap, baseline } = chosen();
  const fate = `fate_${gap.name}_${baseline}`;
  const rows = rowsOfArm(arm);
  const look = lookOf(arm);
  const column = (name) => rows.map((at) => DATA.curves[name][at]);
  if (!rows.length) return [];
  const x = column("round");
  const traces = [];
  const low = column(`${fate}_floor_low`);
  if (byId("bands").checked && shownArms.size <= MOST_BANDS && low.some(known)) {
    const kept = rows.map((_, place) => place).filter((place) => known(low[place]));
    const high = column(`${fate}_floor_high`);
    traces.push({
      x: [...kept.map((place) => x[place]), ...[...kept].reverse().map((place) => x[place])],
      y: [...kept.map((place) => high[place]), ...[...kept].reverse().map((place) => low[place])],
      fill: "toself", fillcolor: faint(look.colour, 0.13), line: { width: 0 }, mode: "lines", hoverinfo: "skip", showlegend: false,
    });
  }
  traces.push({
    x, y: column(fate), name: shielded(DATA.arms.label[arm]), mode: "lines+markers", showlegend: false,
    customdata: rows.map(() => arm),
    hovertext: rows.map((at) => hoverOf(arm, at, gap, baseline)), hovertemplate: "%{hovertext}<extra></extra>",
    line: { color: look.colour, dash: look.dash, width: 2 }, marker: { color: look.colour, symbol: look.symbol, size: 8 },
    error_y: { type: "data", array: column(`${fate}_std`).map((value) => value ?? 0), visible: byId("spread").checked, thickness: 1.2, width: 3, color: look.colour },
  });
  return traces;
}

function drawCurves() {
  const { gap, baseline } = chosen();
  const arms = [...shownArms].sort((a, b) => a - b);
  const layout = layoutBase();
  Object.assign(layout.xaxis, { title: { text: "pruning round" }, dtick: 1, zeroline: false });
  Object.assign(layout.yaxis, { title: { text: `FATE of ${gap.title}` } });
  layout.uirevision = `${gap.name} ${baseline}`;
  Plotly.react("curves", arms.flatMap(curveTraces), layout, CONFIG);
  const bands = byId("bands").checked && arms.length > MOST_BANDS ? ` Noise floors are drawn for up to ${MOST_BANDS} arms.` : "";
  const undefinedOnes = arms.filter((arm) => rowsOfArm(arm).length && rowsOfArm(arm).every((at) => !known(DATA.curves[`fate_${gap.name}_${baseline}`][at])));
  const empty = arms.filter((arm) => !rowsOfArm(arm).length);
  const waiting = empty.length ? ` No round yet: ${empty.map((arm) => DATA.arms.label[arm]).join("; ")}.` : "";
  const none = undefinedOnes.length ? ` Undefined throughout (the baseline's gap is 0): ${undefinedOnes.map((arm) => DATA.arms.label[arm]).join("; ")}.` : "";
  byId("curves-note").textContent = `FATE of ${gap.title} against ${baselineTitle(baseline)}; means over seeds; ${DATA.images}; all rounds (0: before pruning), selection rule ${DATA.select}. Higher is better. Shaded: where FATE would lie in 95 of 100 cases were the model fair. ${several(arms.length, "arm")} of ${count(DATA.arms.label.length)} shown.${bands}${none}${waiting} A click on a point, or on a name in the tables, opens its trials; so do the arrow keys and Enter.`;
}

function swatch(arm) {
  const look = lookOf(arm);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [key, value] of Object.entries({ width: 24, height: 8, "aria-hidden": "true" })) svg.setAttribute(key, value);
  for (const [key, value] of Object.entries({ x1: 0, x2: 24, y1: 4, y2: 4, stroke: look.colour, "stroke-width": 2.5, "stroke-dasharray": look.stroke })) line.setAttribute(key, value);
  svg.append(line);
  return svg;
}

function toggle(arm, on) {
  if (on) shownArms.add(arm);
  else shownArms.delete(arm);
}

function drawToggles() {
  const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (arm) => words.every((word) => DATA.arms.label[arm].toLowerCase().includes(word));
  const found = DATA.ranked.filter(fits);
  const listed = found.slice(0, MOST_LISTED);
  byId("toggles").replaceChildren(...listed.map((arm) => {
    const button = el("button", { type: "button", "aria-pressed": String(shownArms.has(arm)) }, swatch(arm), el("span", {}, DATA.arms.label[arm]));
    button.addEventListener("click", () => {
      toggle(arm, !shownArms.has(arm));
      button.setAttribute("aria-pressed", String(shownArms.has(arm)));
      drawCurves();
    });
    return el("li", {}, button);
  }));
  const more = found.length > listed.length ? ` The first ${listed.length} of ${count(found.length)}; the box finds the others.` : "";
  byId("toggles-note").textContent = `Best first.${more}`;
}

function showArms(arms) {
  shownArms.clear();
  arms.forEach((arm) => shownArms.add(arm));
  drawToggles();
  drawCurves();
}

function startCurves() {
  const option = (select, value, text) => byId(select).append(el("option", { value, selected: value === DATA.yardstick[select] }, text));
  DATA.gaps.forEach((gap) => option("gap", gap.name, gap.title));
  DATA.baselines.forEach((name) => option("baseline", name, baselineTitle(name)));
  DATA.ranked.slice(0, MOST_SHOWN).forEach((arm) => shownArms.add(arm));
  byId("bands").checked = shownArms.size <= MOST_BANDS;
  if (DATA.ranked.length > MOST_LISTED) byId("show-all").textContent = `Best ${MOST_LISTED}`;
  byId("show-best").textContent = `Best ${MOST_BANDS}`;
  byId("find-label").hidden = DATA.ranked.length <= MOST_SHOWN;
  drawToggles();
  drawCurves();
  for (const id of ["gap", "baseline", "bands", "spread"]) byId(id).addEventListener("change", drawCurves);
  byId("find").addEventListener("input", drawToggles);
  byId("show-all").addEventListener("click", () => showArms(DATA.ranked.slice(0, MOST_LISTED)));
  byId("show-best").addEventListener("click", () => showArms(DATA.ranked.slice(0, MOST_BANDS)));
  byId("show-none").addEventListener("click", () => showArms([]));
  byId("curves").on("plotly_click", (event) => openArm(event.points[0].customdata, event.points[0].x));
  startKeys("curves", openArm);
}
