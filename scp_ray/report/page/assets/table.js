// A table that sorts by its heads, filters by its box and shows a page at a time.
const PAGE = 25;

function cellOf(table, column, row) {
  const value = column.cells[row];
  const attributes = { class: ["number", "arm"].includes(column.kind) ? column.kind : "text" };
  if (column.kind === "arm" || column.kind === "trial") {
    const open = () => openNamed(column.kind, value);
    const button = el("button", { type: "button", class: column.kind === "trial" ? "link id" : "link", onclick: open }, String(value));
    return el("td", attributes, button);
  }
  return el("td", attributes, column.kind === "number" ? fixed(value, column.digits, column.sign) : known(value) ? String(value) : MISSING);
}

function compared(left, right) {
  if (typeof left === "number" && typeof right === "number") return left - right;
  return String(left).localeCompare(String(right), "en", { numeric: true });
}

function enhance(holder, data) {
  const columns = data.columns.map((column, at) => ({ ...column, cells: data.cells[at] }));
  const total = columns.length ? columns[0].cells.length : 0;
  const all = Array.from({ length: total }, (_, row) => row);
  const texts = all.map((row) => columns.map((column) => column.cells[row]).join(" ").toLowerCase());
  const state = { order: all, sorted: -1, down: false, words: [], from: 0, size: data.sortable ? PAGE : Math.max(total, 1) };
  const body = holder.querySelector("tbody");
  const heads = [...holder.querySelectorAll("thead th")];
  const box = el("input", { type: "search", autocomplete: "off" });
  const where = el("span", { class: "where", role: "status" });
  const back = el("button", { type: "button" }, "Previous");
  const next = el("button", { type: "button" }, "Next");

  function rows() {
    return state.order.filter((row) => state.words.every((word) => texts[row].includes(word)));
  }
  function draw() {
    const found = rows();
    state.from = Math.max(0, Math.min(state.from, found.length - 1));
    state.from -= state.from % state.size;
    const shown = found.slice(state.from, state.from + state.size);
    body.replaceChildren(...shown.map((row) => el("tr", {}, ...columns.map((column) => cellOf(data, column, row)))));
    const of = found.length === total ? count(total) : `${count(found.length)} found of ${count(total)}`;
    where.textContent = shown.length ? `${count(state.from + 1)} to ${count(state.from + shown.length)} of ${of}` : `none of ${count(total)}`;
    back.disabled = state.from === 0;
    next.disabled = state.from + state.size >= found.length;
  }
  function sort(at) {
    // numbers begin with the largest, words with the first; undefined ones always come last
    state.down = state.sorted === at ? !state.down : columns[at].kind === "number";
    state.sorted = at;
    const cells = columns[at].cells;
    const turn = state.down ? -1 : 1;
    state.order = [...all].sort((a, b) => {
      if (!known(cells[a]) || !known(cells[b])) return known(cells[b]) - known(cells[a]) || a - b;
      return turn * compared(cells[a], cells[b]) || a - b;
    });
    heads.forEach((head, place) => {
      if (place === at) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    state.from = 0;
    draw();
  }
  heads.forEach((head, at) => {
    const title = head.textContent;
    if (title && data.sortable) head.replaceChildren(el("button", { type: "button", onclick: () => sort(at) }, title));
  });
  box.addEventListener("input", () => {
    state.words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    state.from = 0;
    draw();
  });
  back.addEventListener("click", () => { state.from -= state.size; draw(); });
  next.addEventListener("click", () => { state.from += state.size; draw(); });
  if (total > 8 && data.sortable) {
    const pager = total > PAGE ? [back, next] : [];
    holder.prepend(el("div", { class: "tools" }, el("label", {}, "Filter ", box), where, ...pager));
  }
  draw();
  return { all(on) { if (data.sortable) state.size = on ? Math.min(total, 200) || PAGE : PAGE; draw(); } };
}
