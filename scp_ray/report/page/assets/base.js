// Data, elements and numbers as text. Text from the sweep only ever becomes a text node.
const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== undefined && child !== null && child !== ""));
  return node;
}

const MISSING = "-";
const known = (value) => value !== null && value !== undefined;

function fixed(value, digits = 4, sign = false) {
  if (!known(value)) return MISSING;
  if (typeof value !== "number") return String(value);
  const text = digits === null ? String(+value.toPrecision(6)) : value.toFixed(digits);
  return sign && value >= 0 ? `+${text}` : text;
}
const signed = (value, digits = 4) => fixed(value, digits, true);
const count = (value) => value.toLocaleString("en");
const several = (value, name) => `${count(value)} ${name}${value === 1 ? "" : "s"}`;

// plotly reads a few tags and entities in its texts
const shielded = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

// the places of a column that hold a value: rows of an arm, rows of a trial
function placesBy(column) {
  const found = new Map();
  (column || []).forEach((value, place) => {
    if (!found.has(value)) found.set(value, []);
    found.get(value).push(place);
  });
  return (value) => found.get(value) || [];
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el("textarea", { style: "position:fixed;opacity:0" });  // a page from disk may not use the clipboard
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function copyButton(button, text) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    button.textContent = (await copied(text)) ? "Copied" : "Select it by hand";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
