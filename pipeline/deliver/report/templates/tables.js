"use strict";
(function () {
  // Tables that sort by any column and filter by words. A cell's data-value is what it sorts by; without one, its text.
  const key = (cell) => (cell.dataset.value === undefined ? cell.textContent.trim().replace("\u2212", "-").replace(/[$,+±]/g, "") : cell.dataset.value);
  const amount = (text) => { const n = parseFloat(text); return n === n ? n : null; };

  function order(a, b, up) {
    const [x, y] = [amount(a), amount(b)];
    if ((a === "") !== (b === "")) return a === "" ? 1 : -1; // what is unknown comes last either way
    const by = x !== null && y !== null ? x - y : a.localeCompare(b);
    return up ? by : -by;
  }

  document.querySelectorAll("table[data-sort]").forEach((table) => {
    const body = table.tBodies[0];
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        const sorted = Array.from(body.rows).sort((a, b) => order(key(a.cells[column]), key(b.cells[column]), up));
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        body.append(...sorted);
      });
    });
  });

  // A field above the table: rows that hold what is typed. A button: rows that are not the newest of their kind.
  document.querySelectorAll("table[data-filter]").forEach((table) => {
    const rows = Array.from(table.tBodies[0].rows);
    const older = rows.filter((row) => row.classList.contains("older"));
    const bar = document.createElement("p");
    bar.className = "filter";
    const label = document.createElement("label");
    const field = document.createElement("input");
    field.type = "search";
    field.autocomplete = "off";
    label.append(table.dataset.filter + " ", field);
    bar.append(label, " ");
    const toggle = document.createElement("button");
    toggle.type = "button";
    toggle.setAttribute("aria-pressed", "false");
    toggle.textContent = "Older decisions too (" + older.length + ")";
    if (older.length) bar.append(toggle, " ");
    const told = document.createElement("span");
    told.className = "soft";
    told.setAttribute("role", "status");
    bar.append(told);
    function apply() {
      const plain = (text) => text.toLocaleLowerCase().replace(/\s+/g, " ").trim();
      const wanted = plain(field.value);
      const all = toggle.getAttribute("aria-pressed") === "true" || wanted !== "";
      let shown = 0;
      rows.forEach((row) => {
        row.hidden = (!all && row.classList.contains("older")) || !plain(row.textContent).includes(wanted);
        if (!row.hidden) shown += 1;
      });
      told.textContent = shown + " of " + rows.length + " rows";
    }
    field.addEventListener("input", apply);
    toggle.addEventListener("click", () => {
      toggle.setAttribute("aria-pressed", String(toggle.getAttribute("aria-pressed") !== "true"));
      apply();
    });
    table.parentElement.before(bar);
    apply();
    addEventListener("beforeprint", () => rows.forEach((row) => { row.hidden = false; }));
    addEventListener("afterprint", apply);
  });
})();
