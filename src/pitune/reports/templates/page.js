"use strict";
// The page says everything without this script; it adds tooltips, and the light on a task's neighbours.
document.documentElement.classList.add("scripted");

const tip = document.getElementById("tip");

function showTip(event) {
  const over = event.target.closest("[data-tip]");
  tip.hidden = !over;
  if (!over) return;
  tip.textContent = over.dataset.tip;
  const box = tip.getBoundingClientRect();
  const x = Math.min(event.clientX + 14, innerWidth - box.width - 8);
  const below = event.clientY + 18;
  const y = below + box.height > innerHeight ? event.clientY - box.height - 12 : below;
  tip.style.left = `${Math.max(8, x)}px`;
  tip.style.top = `${Math.max(8, y)}px`;
}

document.addEventListener("pointermove", showTip);
document.addEventListener("pointerdown", showTip);
document.addEventListener("scroll", () => { tip.hidden = true; }, true);
document.documentElement.addEventListener("pointerleave", () => { tip.hidden = true; });

const network = document.querySelector("svg.network");
let pinned = null;

function choose(node) {
  network.classList.toggle("chosen", node !== null);
  for (const lit of network.querySelectorAll(".lit")) lit.classList.remove("lit");
  if (node === null) return; // the card stays to be read
  const lit = new Set([node]);
  for (const line of network.querySelectorAll("line")) {
    const { a, b } = line.dataset;
    if (a !== node && b !== node) continue;
    line.classList.add("lit");
    lit.add(a).add(b);
  }
  for (const one of network.querySelectorAll(".node")) one.classList.toggle("lit", lit.has(one.dataset.node));
  for (const card of document.querySelectorAll(".card")) card.classList.toggle("chosen", card.id === `task-${node}`);
}

for (const node of network.querySelectorAll(".node")) {
  const own = node.dataset.node;
  const pin = () => choose(pinned = pinned === own ? null : own);
  node.addEventListener("pointerenter", () => choose(own));
  node.addEventListener("pointerleave", () => choose(pinned));
  node.addEventListener("focus", () => choose(own));
  node.addEventListener("blur", () => choose(pinned));
  node.addEventListener("click", pin);
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    pin();
  });
}
document.addEventListener("keydown", (event) => { if (event.key === "Escape") choose(pinned = null); });
