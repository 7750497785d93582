"use strict";
// The page is whole without this: it only lets cases be found and one player sound at a time.
const text = document.getElementById("find-text");
const outcome = document.getElementById("find-outcome");
const said = document.getElementById("find-said");
const rows = Array.from(document.querySelectorAll("#cases tbody tr"));
const words = rows.map((row) => row.textContent.toLowerCase());
function find() {
  const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  rows.forEach((row, index) => {
    const fits = wanted.every((word) => words[index].includes(word)) &&
      (!outcome.value || row.dataset.outcome === outcome.value);
    row.hidden = !fits;
    shown += fits;
  });
  said.textContent = `${shown} of ${rows.length} cases`;
}
text.addEventListener("input", find);
outcome.addEventListener("change", find);
find();
document.addEventListener("play", (event) => {
  document.querySelectorAll("audio").forEach((player) => player !== event.target && player.pause());
}, true);
