"use strict";
(function () {
  const byId = (id) => document.getElementById(id);

  // Details that matter on paper are opened where the style sheet alone cannot do it.
  const opened = [];
  addEventListener("beforeprint", () => {
    opened.push(...document.querySelectorAll("details.print:not([open])"));
    opened.forEach((d) => { d.open = true; });
  });
  addEventListener("afterprint", () => { opened.splice(0).forEach((d) => { d.open = false; }); });

  document.querySelectorAll("button.copy").forEach((button) => {
    const source = byId(button.dataset.copy);
    button.hidden = false;
    button.addEventListener("click", async () => {
      let done = false;
      try {
        await navigator.clipboard.writeText(source.textContent);
        done = true;
      } catch {
        const range = document.createRange();
        range.selectNodeContents(source);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        try { done = document.execCommand("copy"); } catch { done = false; }
      }
      button.nextElementSibling.textContent = done ? "Copied." : "Selected: press Ctrl+C or Cmd+C to copy.";
    });
  });

  const block = byId("sweep-data");
  const form = byId("explorer");
  if (!block || !form) return;
  const data = JSON.parse(block.textContent);
  const range = byId("explorer-range");
  const output = byId("explorer-output");
  const state = byId("explorer-state");
  const reset = byId("explorer-reset");
  const note = byId("explored-note");
  const inputs = Array.from(form.querySelectorAll("[data-price]"));
  const rows = Array.from(byId("sweep-table").tBodies[0].rows);
  const last = rows.length - 1;
  const home = data.recommended === null ? last : data.recommended;
  const own = inputs.map((_, k) => String(data.prices[k].price));
  const COST = 2;

  // The table is the one place where figures are written; cards repeat its cells.
  const cells = rows.map((row) => Array.from(row.querySelectorAll("td"), (cell) => {
    const interval = cell.querySelector(".ci");
    return { cell: cell, html: Array.from(cell.childNodes), value: cell.firstChild.textContent.trim(), interval: interval ? interval.textContent : "" };
  }));
  const original = cells.map((row) => ({ value: row[COST].value, interval: row[COST].interval }));
  const name = (i) => (data.thresholds[i] === null ? "everything escalates" : rows[i].cells[0].firstChild.textContent.trim());

  function dollars(value) {
    if (value === 0) return "$0";
    const digits = value >= 1000 ? 0 : Math.min(12, Math.max(2, 2 - Math.floor(Math.log10(value))));
    const parts = value.toFixed(digits).split(".");
    parts[0] = parts[0].replace(/\B(?=(\d{3})+$)/g, ",");
    return "$" + parts.join(".");
  }

  // In place of what is no price stands the run's own; the field and the state line say so.
  const usable = (text) => text.trim() !== "" && Number.isFinite(Number(text)) && Number(text) >= 0;
  const prices = () => inputs.map((input, k) => (usable(input.value) ? Number(input.value) : data.prices[k].price));
  const refused = () => inputs.some((input) => !usable(input.value));
  const repriced = () => inputs.length > 0 && prices().some((price, k) => price !== data.prices[k].price);

  function price() {
    const changed = repriced();
    const now = changed ? prices() : null;
    inputs.forEach((input) => input.setAttribute("aria-invalid", String(!usable(input.value))));
    rows.forEach((row, i) => {
      const slot = cells[i][COST];
      if (!changed) {
        slot.value = original[i].value;
        slot.interval = original[i].interval;
        slot.cell.replaceChildren(...slot.html);
      } else {
        slot.value = dollars(now.reduce((sum, p, k) => sum + p * data.prices[k].quantity[i], 0));
        slot.interval = "";
        slot.cell.textContent = slot.value;
      }
    });
  }

  let marker = null;
  const drawing = document.querySelector("#figure-decide svg");
  if (drawing && data.marks) {
    marker = document.createElementNS(drawing.namespaceURI, "circle");
    for (const [key, value] of Object.entries({ id: "explored-marker", r: "5.5", fill: "none", stroke: "#111111", "stroke-width": "2" })) marker.setAttribute(key, value);
    drawing.append(marker);
  }

  function fill(key, value, interval) {
    form.querySelector("[data-explored=" + key + "]").textContent = value === "–" ? "unknown" : value;
    form.querySelector("[data-explored-interval=" + key + "]").textContent = interval;
  }

  function show(follow) {
    const i = Number(range.value);
    const row = cells[i];
    const away = i !== data.recommended;
    const changed = repriced();
    output.textContent = name(i);
    range.setAttribute("aria-valuetext", name(i) + ", " + row[0].value + " escalated");
    fill("escalation", row[0].value, row[0].interval);
    fill("quality", row[1].value, row[1].interval);
    fill("cost", row[COST].value, changed ? "at your prices, no interval" : row[COST].interval);
    fill("wrong", row[3].value, row[3].interval);
    fill("latency", row[4].value, row[5].value === "–" ? "" : "95 of 100 within " + row[5].value);
    rows.forEach((r, k) => {
      r.classList.toggle("explored", k === i);
      if (k === i) r.setAttribute("aria-current", "true"); else r.removeAttribute("aria-current");
    });
    if (marker) {
      const at = data.marks[i];
      marker.setAttribute("visibility", at ? "visible" : "hidden");
      if (at) { marker.setAttribute("cx", at[0]); marker.setAttribute("cy", at[1]); }
    }
    const words = [];
    if (away) words.push("explored value, not certified");
    if (changed) words.push("other prices than the run’s");
    if (refused()) words.push("a price that cannot be used");
    state.replaceChildren();
    const mark = document.createElement("span");
    mark.className = "mark " + (words.length ? "warn" : state.dataset.tone);
    mark.textContent = words.length ? words.join("; ") : state.dataset.home;
    state.append(mark);
    if (changed) state.append(" Cards and table are priced anew; the drawing keeps the prices of the run.");
    if (refused()) state.append(" A price is a number from 0 upwards; for the marked one the run’s own is used.");
    note.hidden = words.length === 0;
    reset.disabled = words.length === 0 && i === home;
    if (follow) {
      const box = byId("sweep-table").parentElement;
      box.scrollTop = rows[i].offsetTop - box.clientHeight / 2;
    }
  }

  function set(at, amounts) {
    range.value = String(at);
    inputs.forEach((input, k) => { input.value = amounts[k]; });
    price();
  }

  function remember() {
    const i = Number(range.value);
    const parts = [];
    if (i !== home || repriced()) parts.push("t=" + (data.thresholds[i] === null ? "all" : data.thresholds[i]));
    if (repriced()) parts.push("usd=" + prices().join(","));
    const hash = parts.length ? "#" + parts.join("&") : "";
    try {
      history.replaceState(null, "", hash || location.pathname + location.search);
    } catch {
      location.hash = hash;
    }
  }

  // The name of a section leaves what is explored alone; an address that names nothing else means the recommendation.
  function restore(follow) {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (!wanted.has("t") && !wanted.has("usd") && byId(location.hash.slice(1))) return false;
    const t = (wanted.get("t") || "").trim();
    let best = t === "all" ? last : home;
    if (t !== "" && Number.isFinite(Number(t))) {
      data.thresholds.forEach((value, i) => {
        const distance = value === null ? Infinity : Math.abs(value - Number(t));
        const least = data.thresholds[best] === null ? Infinity : Math.abs(data.thresholds[best] - Number(t));
        if (distance < least) best = i;
      });
    }
    const named = (wanted.get("usd") || "").split(",");
    set(best, named.length === inputs.length && named.every(usable) ? named : own);
    if (repriced()) byId("explorer-prices").open = true;
    const away = best !== home || repriced();
    show(follow || away);
    remember();
    return away;
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  range.addEventListener("input", () => { show(true); remember(); });
  inputs.forEach((input) => input.addEventListener("input", () => { price(); show(false); remember(); }));
  reset.addEventListener("click", () => {
    set(home, own);
    show(true);
    remember();
    range.focus();
  });
  addEventListener("hashchange", () => restore(true));

  // On paper nothing says that a figure is explored, so it gets the run's own.
  let explored = null;
  addEventListener("beforeprint", () => {
    explored = explored || { at: range.value, amounts: inputs.map((input) => input.value) };
    set(home, own);
    show(false);
  });
  addEventListener("afterprint", () => {
    if (explored) { set(explored.at, explored.amounts); show(false); }
    explored = null;
  });

  // A link within the page would put its own name in the address in place of what is explored there.
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    const target = link && byId(link.hash.slice(1));
    if (!target || !location.hash.startsWith("#t=") || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    target.scrollIntoView();
    target.tabIndex = -1;
    target.focus({ preventScroll: true });
  });

  form.hidden = false;
  range.value = String(home);
  // Until the explorer is used the table stays at its top, where its caption is.
  if (restore(false)) form.scrollIntoView(); else show(false);
})();
