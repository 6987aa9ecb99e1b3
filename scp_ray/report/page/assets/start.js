// Tables first, then what is drawn; and what changes with the theme and on paper.
for (const button of document.querySelectorAll(".copy")) copyButton(button, button.parentElement.querySelector("code").textContent);

const tables = [...document.querySelectorAll("[data-table]")].filter((holder) => DATA.tables[holder.dataset.table])
  .map((holder) => enhance(holder, DATA.tables[holder.dataset.table]));

function redraw() {
  if (!DATA.curves) return;
  drawToggles();
  drawCurves();
  if (DATA.plane) drawPlane();
}

// plotly's own script comes after this one: whatever needs no drawing works before it is read
addEventListener("DOMContentLoaded", () => {
  if (DATA.curves) drawFirst();
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
});

function drawFirst() {
  for (const part of document.querySelectorAll(".needs-script")) part.hidden = false;
  startCurves();
  startPlane();
}
startDetail();
dark.addEventListener("change", redraw);

const folded = [];
addEventListener("beforeprint", () => {
  printing = true;
  for (const details of document.querySelectorAll("details:not([open])")) {
    folded.push(details);
    details.open = true;
  }
  tables.forEach((table) => table.all(true));
  redraw();
});
addEventListener("afterprint", () => {
  printing = false;
  folded.splice(0).forEach((details) => { details.open = false; });
  tables.forEach((table) => table.all(false));
  redraw();
});
