// One slide at a time: keys, buttons, swipes; slides to leave out; a full slide made smaller.
// The address keeps what is shown: #7, or #7&without=fig-ch1-two,exercises.
document.addEventListener("DOMContentLoaded", () => {
  const slides = [...document.querySelectorAll(".slide")];
  const boxes = [...document.querySelectorAll("#list input")];
  const list = document.getElementById("list");
  const count = document.getElementById("count");
  const SMALLEST = 0.5;
  let here = 0;
  let without = new Set();

  // Smaller, step by step, until nothing is cut off. Sizes are in em: what fits here fits anywhere.
  function fit() {
    document.documentElement.classList.add("measuring");
    for (const slide of slides) {
      const body = slide.querySelector(".body");
      const over = () =>
        body.scrollHeight > body.clientHeight + 1 || body.scrollWidth > body.clientWidth + 1;
      let size = 1;
      slide.style.setProperty("--fit", size);
      while (over() && size > SMALLEST) {
        size = Math.round((size - 0.04) * 100) / 100;
        slide.style.setProperty("--fit", size);
      }
    }
    document.documentElement.classList.remove("measuring");
    document.documentElement.dataset.fitted = "yes";
  }

  // A formula that is wider than a phone can be reached from the keyboard, to be scrolled.
  function reach() {
    for (const formula of document.querySelectorAll("mjx-container")) {
      const scrolls = getComputedStyle(formula).overflowX === "auto";
      formula.tabIndex = scrolls && formula.scrollWidth > formula.clientWidth ? 0 : -1;
    }
  }

  const shown = () => slides.map((_, k) => k).filter((k) => !without.has(slides[k].dataset.key));

  function remember() {
    const names = [...without].map(encodeURIComponent).join(",");
    const hash = `#${here + 1}${names && `&without=${names}`}`;
    if (location.hash !== hash) history.replaceState(null, "", hash);
  }

  function show(k, focus = true) {
    here = Math.min(Math.max(k, 0), slides.length - 1);
    slides.forEach((slide, n) => {
      slide.classList.toggle("here", n === here);
      slide.classList.toggle("out", without.has(slide.dataset.key));
    });
    boxes.forEach((box) => { box.checked = !without.has(box.value); });
    count.textContent = `${here + 1} / ${slides.length}`;
    remember();
    if (focus) slides[here].focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }

  function move(by) {
    const others = shown().filter((k) => (by > 0 ? k > here : k < here));
    if (others.length) show(by > 0 ? others[0] : others.at(-1));
  }

  function read() {
    const [number, ...rest] = location.hash.slice(1).split("&");
    const named = rest.find((part) => part.startsWith("without="));
    const known = new Set(slides.map((slide) => slide.dataset.key));
    const names = named ? named.slice(8).split(",").map(decodeURIComponent) : [];
    // A plain number, as in the list's links, changes the slide and nothing else.
    if (named || !location.hash || !document.documentElement.dataset.read) {
      without = new Set(names.filter((name) => known.has(name)));
    }
    document.documentElement.dataset.read = "yes";
    show((parseInt(number, 10) || (shown()[0] ?? 0) + 1) - 1);
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || list.open) return;
    const busy = event.target.closest("a, button, input");
    const scrolls = slides[here].scrollHeight > window.innerHeight + 1;
    const key = event.key;
    if (key === "ArrowRight" || key === "PageDown") move(1);
    else if (key === "ArrowLeft" || key === "PageUp") move(-1);
    else if (key === "ArrowDown" && !scrolls) move(1);
    else if (key === "ArrowUp" && !scrolls) move(-1);
    else if (key === " " && !busy) move(event.shiftKey ? -1 : 1);
    else if (key === "Home") show(shown()[0] ?? 0);
    else if (key === "End") show(shown().at(-1) ?? 0);
    else return;
    event.preventDefault();
  });

  let start = null;
  document.addEventListener("touchstart", (event) => {
    const wide = event.target.closest("mjx-container, dialog");
    const one = event.touches.length === 1 && !(wide && wide.scrollWidth > wide.clientWidth);
    start = one && !list.open ? event.touches[0] : null;
  }, { passive: true });
  document.addEventListener("touchend", (event) => {
    if (!start) return;
    const x = event.changedTouches[0].clientX - start.clientX;
    const y = event.changedTouches[0].clientY - start.clientY;
    if (Math.abs(x) > 50 && Math.abs(x) > 2 * Math.abs(y)) move(x < 0 ? 1 : -1);
    start = null;
  });

  document.getElementById("back").addEventListener("click", () => move(-1));
  document.getElementById("on").addEventListener("click", () => move(1));
  document.getElementById("all").addEventListener("click", () => list.showModal());
  const full = document.getElementById("full");
  full.hidden = !document.fullscreenEnabled;
  full.addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen();
  });
  document.getElementById("reset").addEventListener("click", () => {
    without.clear();
    show(here, false);
  });
  list.addEventListener("change", (event) => {
    without[event.target.checked ? "delete" : "add"](event.target.value);
    show(here, false);
  });
  list.addEventListener("click", (event) => {
    if (event.target.closest("a")) list.close();
  });
  window.addEventListener("hashchange", read);
  window.addEventListener("resize", reach);

  read();
  const ready = window.MathJax?.startup?.promise ?? Promise.resolve();
  ready.then(() => { fit(); reach(); });
});
