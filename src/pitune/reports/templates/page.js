"use strict";
// The page says everything without this script; it adds search, sorting, zoom, and the light on a task's neighbours.
document.documentElement.classList.add("scripted");

for (const head of document.querySelectorAll("table.sortable thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = head.closest("table").tBodies[0];
    const key = (row) => row.cells[head.cellIndex].dataset.sort ?? row.cells[head.cellIndex].textContent.trim();
    const order = new Intl.Collator("en", { numeric: true });
    const compare = (a, b) => (Number(a) - Number(b)) || order.compare(a, b);
    const rows = [...body.rows].sort((a, b) => compare(key(a), key(b)) * (down ? -1 : 1));
    body.append(...rows);
  });
}

const network = document.querySelector("svg.network");
const about = document.getElementById("about");
let pinned = null;

function light(nodes, joined) {
  network.classList.toggle("chosen", nodes !== null);
  for (const one of network.querySelectorAll(".node")) one.classList.toggle("lit", !!nodes && nodes.has(one.dataset.node));
  for (const line of network.querySelectorAll("line")) line.classList.toggle("lit", joined(line.dataset));
}

function choose(node) {
  if (node === null) return light(null, () => false);
  const lit = new Set([node]);
  const touches = ({ a, b }) => a === node || b === node;
  for (const { dataset } of network.querySelectorAll("line")) if (touches(dataset)) lit.add(dataset.a).add(dataset.b);
  light(lit, touches);
  about.textContent = network.querySelector(`.node[data-node="${node}"]`).dataset.about;
}

function pin(node) {
  choose(pinned = pinned === node ? null : node);
}

if (network) {
  for (const node of network.querySelectorAll(".node")) {
    node.addEventListener("pointerenter", () => choose(node.dataset.node));
    node.addEventListener("pointerleave", () => choose(pinned));
    node.addEventListener("click", () => pin(node.dataset.node));
  }
  for (const row of document.querySelectorAll("tr[data-node]")) {
    row.querySelector("button").addEventListener("click", () => pin(row.dataset.node));
  }
  let zoom = 1;
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => {
      zoom = Math.min(8, Math.max(0.2, zoom * Number(button.dataset.zoom)));
      network.style.width = `${Math.round(network.viewBox.baseVal.width * zoom)}px`;
      network.style.maxWidth = "none";
    });
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") choose(pinned = null); });
}

for (const input of document.querySelectorAll("[data-search]")) {
  const rows = [...document.getElementById(input.dataset.search).tBodies[0].rows];
  const told = (row) => [...row.cells].filter((cell) => !cell.matches(".near")).map((cell) => cell.textContent).join(" ").toLowerCase();
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => told(row).includes(word));
    const found = rows.filter((row) => !row.hidden);
    input.closest(".search").querySelector("output").textContent = words.length ? `${found.length} of ${rows.length}` : "";
    if (network && rows[0]?.dataset.node !== undefined) {
      light(words.length ? new Set(found.map((row) => row.dataset.node)) : null, () => false);
    }
  });
}

addEventListener("beforeprint", () => { // what is folded on the screen is open on paper
  for (const one of document.querySelectorAll("details:not([open])")) one.open = one.dataset.folded = true;
});
addEventListener("afterprint", () => { for (const one of document.querySelectorAll("details[data-folded]")) one.open = false; });
