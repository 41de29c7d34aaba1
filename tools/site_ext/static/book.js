// A formula wider than its place scrolls by itself (see book.css), and can be reached to be scrolled.
document.addEventListener("DOMContentLoaded", () => {
  const mark = () => document.querySelectorAll("mjx-container").forEach((formula) => {
    formula.classList.remove("wide");
    const line = formula.closest("p, li, dd, td, th, figcaption, section");
    const picture = formula.querySelector("svg");
    if (line && picture && picture.getBoundingClientRect().width > line.clientWidth) {
      formula.classList.add("wide");
    }
    const scrolls = [formula, formula.closest("div.math")].some(
      (box) => box && box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX === "auto",
    );
    formula.tabIndex = scrolls ? 0 : -1;
  });
  window.MathJax?.startup?.promise?.then(mark);
  window.addEventListener("resize", mark);
  // Folded proofs and solutions are unfolded while the formulas in them have no size.
  document.addEventListener("click", (event) => {
    if (event.target.closest(".toggle-button, .admonition-title, summary")) setTimeout(mark);
  });
});
