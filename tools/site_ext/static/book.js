// A formula in a line that is wider than its line scrolls by itself (see book.css).
document.addEventListener("DOMContentLoaded", () => {
  const mark = () => document.querySelectorAll("span.math mjx-container").forEach((formula) => {
    formula.classList.remove("wide");
    const line = formula.closest("p, li, dd, td, th, figcaption, section");
    const picture = formula.querySelector("svg");
    if (line && picture && picture.getBoundingClientRect().width > line.clientWidth) {
      formula.classList.add("wide");
    }
  });
  window.MathJax?.startup?.promise?.then(mark);
  window.addEventListener("resize", mark);
});
