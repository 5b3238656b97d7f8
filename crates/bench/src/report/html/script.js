"use strict";
// The page reads without this; it only lets a reader hide arms.
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!shown));
    document.body.classList.toggle("hide" + button.dataset.slot, shown);
  });
}
