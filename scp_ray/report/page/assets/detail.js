// The panel that a click on a point or a name opens: an arm with its seeds, or a trial with its rounds.
const trialsOfArm = placesBy(DATA.trials && DATA.trials.arm);
const rowsOfTrial = placesBy(DATA.rounds && DATA.rounds.trial);
let openedBy = null;

const gapOf = (name) => (DATA.gaps || []).find((gap) => gap.name === name);

function smallTable(caption, heads, rows) {
  const cells = (row) => row.cells.map((cell, at) => el("td", { class: heads[at].wide ? "arm" : heads[at].text ? "text" : "number" }, cell));
  return el("div", { class: "table" }, el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    el("table", {},
      el("caption", {}, el("span", {}, caption)),
      el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col", class: head.text ? "text" : "number" }, head.title)))),
      el("tbody", {}, ...rows.map((row) => el("tr", row.marked ? { class: "marked" } : {}, ...cells(row)))))));
}

function facts(pairs) {
  const shown = pairs.filter(([, value]) => known(value) && value !== "");
  return el("dl", { class: "facts" }, ...shown.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function failureOf(ids) {
  const found = ids.map((id) => [id, DATA.failures[id]]).filter(([, failure]) => failure);
  return found.map(([id, failure]) => {
    const button = el("button", { type: "button", class: "copy" }, "Copy");
    copyButton(button, failure.rerun);
    return el("div", { class: "failure" }, el("h3", {}, `Failed: ${failure.label}`), el("p", {}, failure.reason),
      el("p", { class: "note" }, `Record: failures/${id}.json. Try again:`),
      el("div", { class: "command" }, el("code", {}, failure.rerun), button));
  });
}

const HEADS = (gap) => [{ title: "F1" }, { title: gap.title }, { title: "floor" }, { title: "p" }, { title: "FATE" }, { title: "channels" }];

function measures(row, gap, baseline) {
  const of = (name) => (row === undefined || !DATA.rounds[name] ? null : DATA.rounds[name][row]);
  return [fixed(of("f1")), fixed(of(gap.name)), fixed(of(`${gap.name}_floor_mean`)), fixed(of(`${gap.name}_p`), 3),
    signed(of(`fate_${gap.name}_${baseline}`)), fixed(of("channels_left"), 0)];
}

function trialButton(place) {
  return el("button", { type: "button", class: "link id", onclick: () => openTrial(place) }, DATA.ids[DATA.trials.trial[place]]);
}

function openArm(arm, round = null) {
  const { gap, baseline } = chosen();
  const seeds = trialsOfArm(arm).map((place) => {
    const index = round === null ? DATA.trials.selected[place] : round;
    const row = rowsOfTrial(DATA.trials.trial[place]).find((at) => DATA.rounds.round[at] === index);
    const reached = known(index) && index <= DATA.trials.rounds_asked[place] ? row : undefined;
    return { cells: [trialButton(place), fixed(DATA.trials.seed[place], 0), DATA.trials.status[place], fixed(index, 0), ...measures(reached, gap, baseline)] };
  });
  const heads = [{ title: "trial", text: true }, { title: "seed" }, { title: "status", text: true }, { title: "round" }, ...HEADS(gap)];
  const curve = rowsOfArm(arm).map((at) => ({
    marked: DATA.curves.round[at] === round,
    cells: [fixed(DATA.curves.round[at], 0), fixed(DATA.curves.seeds[at], 0), ...curveMeasures(at, gap, baseline)],
  }));
  const spread = [{ title: "round" }, { title: "seeds" }, { title: "F1" }, { title: "±" }, { title: gap.title }, { title: "±" }, { title: "floor" }, { title: "FATE" }, { title: "±" }];
  const ids = trialsOfArm(arm).flatMap((place) => [DATA.ids[DATA.trials.trial[place]], DATA.trials.base_id[place]]);
  show(DATA.arms.label[arm], [
    facts(Object.entries(DATA.arms.settings[arm])),
    smallTable(round === null ? "Each seed at its selected round (validation)." : `Each seed at round ${round} (validation).`, heads, seeds),
    smallTable(`Rounds: means and standard deviations over seeds (validation); FATE of ${gap.title} against ${baselineTitle(baseline)}.`, spread, curve),
    ...failureOf([...new Set(ids)]),
  ]);
}

function curveMeasures(at, gap, baseline) {
  const of = (name) => (DATA.curves[name] ? DATA.curves[name][at] : null);
  const fate = `fate_${gap.name}_${baseline}`;
  return [fixed(of("f1")), fixed(of("f1_std")), fixed(of(gap.name)), fixed(of(`${gap.name}_std`)),
    fixed(of(`${gap.name}_floor_mean`)), signed(of(fate)), fixed(of(`${fate}_std`))];
}

function openTrial(place) {
  const { gap, baseline } = chosen();
  const { trial, seed, base_id: base, status, rounds_done: done, rounds_asked: asked, selected, arm } = DATA.trials;
  const id = DATA.ids[trial[place]];
  const stops = DATA.rounds.stop_reason || [];
  const rows = rowsOfTrial(trial[place]).filter((at) => DATA.rounds.round[at] <= asked[place]).map((at) => ({
    marked: DATA.rounds.round[at] === selected[place],
    cells: [fixed(DATA.rounds.round[at], 0), ...measures(at, gap, baseline), fixed((DATA.rounds.seconds || [])[at], 1), stops[at] || ""],
  }));
  const toArm = el("button", { type: "button", class: "link", onclick: () => openArm(arm[place]) }, DATA.arms.label[arm[place]]);
  show(`Trial ${id}`, [
    facts([["arm", toArm], ["seed", fixed(seed[place], 0)], ["status", status[place]], ["rounds", `${done[place]} of ${asked[place]}`],
      ["selected round", fixed(selected[place], 0)], ["base model", base[place]], ["record", `rounds/${id}.parquet`], ...Object.entries(DATA.arms.settings[arm[place]])]),
    rows.length ? smallTable("Validation; the selected round is marked. A stop that is only recorded did not end the trial.",
      [{ title: "round" }, ...HEADS(gap), { title: "seconds" }, { title: "would stop", text: true, wide: true }], rows) : el("p", {}, "No round is done."),
    ...failureOf([id, base[place]]),
  ]);
}

function openNamed(kind, name) {
  if (kind === "arm") openArm(DATA.arms.label.indexOf(name));
  else openTrial(DATA.trials.trial.indexOf(DATA.ids.indexOf(name)));
}

function show(title, parts) {
  const panel = byId("detail");
  if (panel.hidden) openedBy = document.activeElement;
  byId("detail-title").textContent = title;
  byId("detail-body").replaceChildren(...parts);
  panel.hidden = false;
  panel.scrollTop = 0;
  panel.focus();
}

function hide() {
  byId("detail").hidden = true;
  if (openedBy && document.contains(openedBy)) openedBy.focus();
}

function startDetail() {
  byId("detail-close").addEventListener("click", hide);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("detail").hidden) hide();
  });
}
