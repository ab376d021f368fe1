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

  const filter = byId("token-filter");
  if (filter) {
    const strips = Array.from(document.querySelectorAll(".strip"));
    const selects = { label: byId("token-label"), segment: byId("token-segment") };
    for (const [key, select] of Object.entries(selects)) {
      Array.from(new Set(strips.map((s) => s.dataset[key]).filter(Boolean))).sort().forEach((value) => {
        const option = document.createElement("option");
        option.textContent = value;
        option.value = value;
        select.append(option);
      });
      select.addEventListener("change", () => {
        let shown = 0;
        strips.forEach((s) => {
          s.hidden = Object.entries(selects).some(([k, one]) => one.value !== "" && s.dataset[k] !== one.value);
          if (!s.hidden) shown += 1;
        });
        byId("token-count").textContent = shown + " of " + strips.length + " replies";
      });
    }
    filter.hidden = false;
    document.addEventListener("keydown", (event) => { if (event.key === "Escape" && document.activeElement.matches("[data-token]")) document.activeElement.blur(); });
  }

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
  const passed = data.passed;
  const typed = byId("explorer-value");
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

  // The chart: cost (at the prices that are set) against quality, over the table's own numbers.
  const svg = byId("chart-svg");
  const AREA = { left: 62, right: 700, top: 30, bottom: 330 };
  const LINES = [["random", "random escalation", "#5b6570", "1.5 2.5"], ["router", "text-only router", "#a0457b", "6 3"], ["oracle", "oracle", "#007a5a", "9 3 2 3"]];
  const costs = () => (data.usd ? (repriced() ? data.thresholds.map((_, i) => prices().reduce((sum, p, k) => sum + p * data.prices[k].quantity[i], 0)) : data.usd) : data.escalation);
  let places = [];

  function add(parent, tag, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  // Places of ticks and a writer for them with the decimals that tell them apart.
  function ticks(low, high, most, write) {
    const step = 10 ** Math.floor(Math.log10((high - low) / 4 || 1));
    const wide = [1, 2, 5, 10, 20, 50].map((k) => k * step).find((w) => (high - low) / w <= most);
    const out = [];
    for (let t = Math.ceil(low / wide) * wide; t <= high + wide * 1e-9; t += wide) out.push(t);
    return out.map((t) => [t, write(t, wide)]);
  }
  const decimals = (step) => Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const inPercent = (t, step) => (100 * t).toFixed(decimals(100 * step)) + "\u00a0%";
  const inDollars = (t, step) => "$" + Math.max(0, t).toFixed(step >= 1 ? 0 : Math.max(2, decimals(step)));

  function draw() {
    const x = costs();
    const known = data.thresholds.map((_, i) => i).filter((i) => x[i] !== null && data.quality[i] !== null);
    const curve = known.filter((i) => data.thresholds[i] !== null);
    if (curve.length < 2) return false;
    const wide = Math.max(320, Math.min(720, svg.parentElement.clientWidth - 24));
    svg.setAttribute("viewBox", "0 0 " + wide + " 380");
    svg.setAttribute("width", wide);
    AREA.right = wide - 20;
    const others = repriced() ? [] : LINES.filter(([name]) => (data.rules[name] || []).length > 1); // at the run's own prices only
    const over = (values) => [Math.min(...values), Math.max(...values)];
    let [x0, x1] = over([...known.map((i) => x[i]), ...others.flatMap(([name]) => data.rules[name].map((p) => p[0]))]);
    let [y0, y1] = over([...known.flatMap((i) => [data.quality[i], data.lower[i], data.upper[i]].filter((v) => v !== null)), ...others.flatMap(([name]) => data.rules[name].map((p) => p[1]))]);
    x0 -= (x1 - x0) * 0.04; x1 += (x1 - x0) * 0.04; y0 -= (y1 - y0) * 0.05; y1 = Math.min(1.005, y1 + (y1 - y0) * 0.05);
    const px = (v) => AREA.left + (v - x0) / (x1 - x0 || 1) * (AREA.right - AREA.left);
    const py = (v) => AREA.bottom - (v - y0) / (y1 - y0 || 1) * (AREA.bottom - AREA.top);
    places = data.thresholds.map((_, i) => (x[i] === null || data.quality[i] === null ? null : [px(x[i]), py(data.quality[i])]));
    svg.replaceChildren();
    const words = { fill: "#1d2530", "font-size": "12", "font-family": "system-ui, sans-serif" };
    for (const [t, told] of ticks(y0, y1, 6, inPercent)) {
      add(svg, "path", { d: "M" + AREA.left + " " + py(t) + "H" + AREA.right, stroke: "#e3e6ea" });
      add(svg, "text", { ...words, x: AREA.left - 6, y: py(t) + 4, "text-anchor": "end" }, told);
    }
    for (const [t, told] of ticks(x0, x1, wide < 480 ? 4 : 6, data.usd ? inDollars : inPercent)) {
      add(svg, "path", { d: "M" + px(t) + " " + AREA.bottom + "v5", stroke: "#6b7480" });
      add(svg, "text", { ...words, x: px(t), y: AREA.bottom + 19, "text-anchor": "middle" }, told);
    }
    add(svg, "text", { ...words, x: 8, y: 14 }, data.quality_name);
    add(svg, "text", { ...words, x: (AREA.left + AREA.right) / 2, y: AREA.bottom + 40, "text-anchor": "middle", id: "chart-axis" }, data.usd ? "cost per 1,000 requests" + (repriced() ? ", at your prices" : "") : "share escalated");
    const line = (list, of) => list.map((i, k) => (k ? "L" : "M") + px(x[i]).toFixed(1) + " " + py(of(i)).toFixed(1)).join("");
    const banded = curve.filter((i) => data.lower[i] !== null && data.upper[i] !== null);
    const whole = curve.filter((i) => data.whole && data.whole[0][i] !== null && data.whole[1][i] !== null);
    const inside = (v) => Math.min(y1, Math.max(y0, v));
    if (whole.length > 1) add(svg, "path", { d: line(whole, (i) => inside(data.whole[1][i])) + line(whole.slice().reverse(), (i) => inside(data.whole[0][i])).replace("M", "L") + "Z", fill: "#0072B2", opacity: "0.07" });
    others.forEach(([name, , colour, dash]) => add(svg, "path", { d: data.rules[name].map((p, k) => (k ? "L" : "M") + px(p[0]).toFixed(1) + " " + py(p[1]).toFixed(1)).join(""), stroke: colour, "stroke-width": "1.5", "stroke-dasharray": dash, fill: "none", "data-rule": name }));
    if (banded.length > 1) add(svg, "path", { d: line(banded, (i) => data.upper[i]) + line(banded.slice().reverse(), (i) => data.lower[i]).replace("M", "L") + "Z", fill: "#0072B2", opacity: "0.13" });
    if (data.target !== null && data.target > y0 && data.target < y1) {
      add(svg, "path", { d: "M" + AREA.left + " " + py(data.target) + "H" + AREA.right, stroke: "#D55E00", "stroke-dasharray": "6 4", fill: "none" });
      add(svg, "text", { ...words, fill: "#9c3f00", x: AREA.right, y: py(data.target) - 5, "text-anchor": "end" }, "target");
    }
    add(svg, "path", { d: line(curve, (i) => data.quality[i]), stroke: "#0072B2", "stroke-width": "2", fill: "none", id: "chart-curve" });
    const runs = [];
    curve.forEach((i) => { if (!passed[i]) return; const last_ = runs[runs.length - 1]; if (last_ && curve[curve.indexOf(i) - 1] === last_[last_.length - 1]) last_.push(i); else runs.push([i]); });
    runs.forEach((run) => add(svg, "path", { d: line(run, (i) => data.quality[i]) + (run.length === 1 ? "h0.1" : ""), stroke: "#007a5a", "stroke-width": "7", "stroke-linecap": "round", opacity: "0.45", fill: "none", "data-certified": "" }));
    const ends = [[curve[0], "cheap keeps all", 8, "start"], [curve[curve.length - 1], "all escalated", -8, "end"]];
    ends.forEach(([i, text, dx, anchor]) => add(svg, "text", { ...words, x: px(x[i]) + dx, y: py(data.quality[i]) + 18, "text-anchor": anchor }, text));
    if (places[last]) {
      add(svg, "rect", { x: places[last][0] - 5, y: places[last][1] - 5, width: 10, height: 10, fill: "#007a5a", stroke: "#1d2530" });
      add(svg, "text", { ...words, x: places[last][0] - 8, y: places[last][1] - 9, "text-anchor": "end" }, data.other + " alone");
    }
    if (data.recommended !== null && places[data.recommended]) add(svg, "circle", { cx: places[data.recommended][0], cy: places[data.recommended][1], r: 6, fill: "#D55E00", stroke: "#1d2530" });
    const ring = add(svg, "circle", { id: "explored-marker", r: 9, fill: "none", stroke: "#111111", "stroke-width": "2.5" });
    const at = places[Number(range.value)];
    ring.setAttribute("visibility", at ? "visible" : "hidden");
    if (at) { ring.setAttribute("cx", at[0]); ring.setAttribute("cy", at[1]); }
    return true;
  }

  function nearest(event) {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const y = (event.clientY - box.top) / box.height * 380;
    let best = null;
    places.forEach((p, i) => { if (p && (best === null || (p[0] - x) ** 2 + 0.15 * (p[1] - y) ** 2 < (places[best][0] - x) ** 2 + 0.15 * (places[best][1] - y) ** 2)) best = i; });
    return best;
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
    typed.value = data.thresholds[i] === null ? "" : data.thresholds[i];
    range.setAttribute("aria-valuetext", name(i) + ", " + row[1].value + " right, " + row[COST].value + " per 1,000, " + row[0].value + " escalated");
    fill("escalation", row[0].value, row[0].interval);
    fill("quality", row[1].value, row[1].interval);
    fill("cost", row[COST].value, changed ? "at your prices, no interval" : row[COST].interval);
    fill("wrong", row[3].value, row[3].interval);
    if (row.length > 5) fill("latency", row[4].value, row[5].value === "–" ? "" : "95 of 100 within " + row[5].value);
    rows.forEach((r, k) => {
      r.classList.toggle("explored", k === i);
      if (k === i) r.setAttribute("aria-current", "true"); else r.removeAttribute("aria-current");
    });
    if (svg) draw();
    const words = [];
    if (away) words.push(passed[i] ? "also certified" : "explored, not certified");
    if (changed) words.push("other prices than the run’s");
    if (refused()) words.push("a price that cannot be used");
    state.replaceChildren();
    const mark = document.createElement("span");
    mark.className = "mark " + (words.length ? (away && passed[i] && words.length === 1 ? "good" : "warn") : state.dataset.tone);
    mark.textContent = words.length ? words.join("; ") : state.dataset.home;
    state.append(mark);
    if (changed) state.append(" Cards, chart and table are priced anew.");
    if (refused()) state.append(" A price is a number from 0 upwards; for the marked one the run’s own is used.");
    note.hidden = words.length === 0;
    reset.disabled = words.length === 0 && i === home;
    if (follow) {
      const box = byId("sweep-table").parentElement;
      box.scrollTop = rows[i].offsetTop - box.clientHeight / 2;
    }
  }

  // Requests a month: the money line of the first screen for as many, kept in the address.
  const requests = byId("requests");
  const ownRequests = requests ? requests.value : "";

  function money() {
    if (!requests || !data.money) return;
    const n = usable(requests.value) && Number(requests.value) > 0 ? Number(requests.value) : Number(ownRequests);
    requests.setAttribute("aria-invalid", String(!(usable(requests.value) && Number(requests.value) > 0)));
    const many = n / 1000;
    byId("money-requests").textContent = n.toLocaleString("en-US");
    byId("money-cascade").textContent = dollars(many * data.money.cascade);
    byId("money-strong").textContent = dollars(many * data.money.strong);
    byId("money-saved").textContent = dollars(Math.abs(many * (data.money.strong - data.money.cascade)));
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
    if (requests && requests.value !== ownRequests && usable(requests.value)) parts.push("n=" + Number(requests.value));
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
    if (!wanted.has("t") && !wanted.has("usd") && !wanted.has("n") && byId(location.hash.slice(1))) return false;
    const t = (wanted.get("t") || "").trim();
    let best = t === "all" ? last : home;
    if (t !== "" && Number.isFinite(Number(t))) {
      data.thresholds.forEach((value, i) => {
        const distance = value === null ? Infinity : Math.abs(value - Number(t));
        const least = data.thresholds[best] === null ? Infinity : Math.abs(data.thresholds[best] - Number(t));
        if (distance < least) best = i;
      });
    }
    if (requests) {
      const n = wanted.get("n");
      requests.value = n !== null && usable(n) && Number(n) > 0 ? n : ownRequests;
      money();
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
  const step = (by) => { range.value = String(Math.min(last, Math.max(0, Number(range.value) + by))); show(true); remember(); };
  byId("explorer-less").addEventListener("click", () => step(-1));
  byId("explorer-more").addEventListener("click", () => step(1));
  typed.addEventListener("change", () => {
    const wanted = Number(typed.value);
    if (!usable(typed.value)) { show(false); return; }
    let best = 0;
    data.thresholds.forEach((t, i) => { if (t !== null && Math.abs(t - wanted) < Math.abs(data.thresholds[best] - wanted)) best = i; });
    range.value = String(best);
    show(true);
    remember();
  });
  if (requests) requests.addEventListener("input", () => { money(); remember(); });
  const tip = byId("chart-note");
  const told = (i) => name(i) + ": " + rows[i].cells[2].textContent.trim() + " at " + cells[i][COST].value + ", " + cells[i][0].value + " escalated" + (i === data.recommended ? ", recommended" : passed[i] ? ", also certified" : ", explored, not certified");
  svg.addEventListener("pointermove", (event) => { const i = nearest(event); if (i !== null) tip.textContent = told(i); });
  svg.addEventListener("pointerleave", () => { tip.textContent = data.note; });
  svg.addEventListener("click", (event) => { const i = nearest(event); if (i !== null) { range.value = String(i); show(true); remember(); tip.textContent = told(i); } });
  byId("share-link").addEventListener("click", async () => {
    let done = false;
    try { await navigator.clipboard.writeText(location.href); done = true; } catch { done = false; }
    byId("share-said").textContent = done ? "Link copied." : "The address of this page holds the view.";
  });
  const stretch = byId("explorer-stretch");
  const strip = add(stretch, "svg", { width: "100%", height: "8", viewBox: "0 0 " + Math.max(1, last) + " 8", preserveAspectRatio: "none" });
  passed.forEach((good, i) => { if (good) add(strip, "rect", { x: i - 0.5, width: 1.02, y: 0, height: 8, fill: "#007a5a", "data-certified": "" }); });
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
  if (requests) byId("volume").hidden = false;
  tip.textContent = data.note;
  byId("chart").hidden = false; // drawn at the width that it then has
  if (draw()) document.documentElement.classList.add("live"); else byId("chart").hidden = true;
  addEventListener("resize", () => { if (!byId("chart").hidden) draw(); });
  LINES.forEach(([name, title, colour, dash]) => {
    if ((data.rules[name] || []).length < 2) return;
    const key = document.createElement("span");
    add(key, "path", { d: "M0 5H28", stroke: colour, "stroke-width": "2", "stroke-dasharray": dash });
    const drawn = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [k, v] of [["width", "28"], ["height", "10"], ["aria-hidden", "true"]]) drawn.setAttribute(k, v);
    drawn.append(...key.childNodes);
    key.append(drawn, " " + title);
    byId("chart-key").append(key);
  });
  range.value = String(home);
  // Until the explorer is used the table stays at its top, where its caption is.
  if (restore(false)) form.scrollIntoView(); else show(false);
})();
