(() => {
  const form = document.querySelector(".ledger-filter");
  const source = form.querySelector("#ledger-source");
  const verdict = form.querySelector("#ledger-verdict");
  const shown = form.querySelector("#ledger-shown");
  const bodies = [...document.querySelectorAll("#ledger-table > tbody")];
  const apply = () => {
    let total = 0, left = 0;
    for (const body of bodies) {
      let here = 0;
      for (const row of body.querySelectorAll("tr[data-source]")) {
        total += 1;
        row.hidden = (source.value !== "" && row.dataset.source !== source.value)
          || (verdict.value !== "" && row.dataset.verdict !== verdict.value);
        if (!row.hidden) here += 1;
      }
      body.hidden = here === 0;
      left += here;
    }
    shown.textContent = left === total ? `${total} claims` : `${left} of ${total} claims`;
  };
  form.hidden = false;
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
