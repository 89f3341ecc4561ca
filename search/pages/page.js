"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

  // ---- boards: sort, filter, open -------------------------------------------------------------------------------
  const pairs = (table) => all("tbody > tr.row", table).map((row) => [row, row.nextElementSibling]);

  function sortBy(table, head) {
    const place = all("th", head.parentElement).indexOf(head);
    const words = head.hasAttribute("data-words");
    const before = head.getAttribute("aria-sort");
    // numbers begin with the largest, ranks and words with the first
    const first = words || head.dataset.name === "rank" ? "ascending" : "descending";
    const order = before === null ? first : before === "ascending" ? "descending" : "ascending";
    all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => row.cells[place].dataset.v;
    const sorted = pairs(table).sort(([a], [b]) => {
      const [x, y] = [value(a), value(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);  // unknown ones last
      return sign * (words ? x.localeCompare(y, undefined, { numeric: true }) : Number(x) - Number(y));
    });
    table.tBodies[0].append(...sorted.flat());
  }

  function filter(form) {
    const table = document.getElementById(form.dataset.board);
    const find = form.querySelector("[data-find]").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = all("[data-filter]", form).filter((field) => field.value);
    const only = form.querySelector("[data-only]");
    let shown = 0;
    for (const [row, detail] of pairs(table)) {
      const text = (row.textContent + " " + detail.textContent).toLowerCase();
      const fits = find.every((word) => text.includes(word))
        && chosen.every((field) => row.dataset[field.dataset.filter] === field.value)
        && (!only || !only.checked || row.classList.contains("judged"));
      row.hidden = !fits;
      if (!fits) open(row, detail, false);
      shown += fits;
    }
    form.querySelector("output").textContent = `${shown} row${shown === 1 ? "" : "s"}`;
  }

  function open(row, detail, wanted) {
    detail.hidden = !wanted;
    row.querySelector(".opens").setAttribute("aria-expanded", String(wanted));
  }

  for (const table of all("table.board")) {
    all("th[data-name] button", table).forEach((button) =>
      button.addEventListener("click", () => sortBy(table, button.parentElement)));
    for (const [row, detail] of pairs(table)) {
      row.addEventListener("click", (event) => {
        if (String(window.getSelection()) && !event.target.closest("button")) return;  // somebody marks a number
        open(row, detail, detail.hidden);
      });
    }
  }
  for (const form of all("form.filters")) {
    form.addEventListener("input", () => filter(form));
    form.addEventListener("submit", (event) => event.preventDefault());
  }
  for (const button of all("button.copy")) {
    button.addEventListener("click", async () => {
      const code = button.previousElementSibling;
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "copied";
      } catch {  // a page from disk may not: mark it, so that the keyboard can
        window.getSelection().selectAllChildren(code);
        button.textContent = "marked: press Ctrl-C";
      }
      setTimeout(() => { button.textContent = "copy"; }, 2500);
    });
  }

  // ---- charts ---------------------------------------------------------------------------------------------------
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  const options = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };

  function template() {
    const night = dark.matches && !printing;
    const [ink, grid] = night ? ["#e6e9ec", "#2b3137"] : ["#1c2024", "#e3e7eb"];
    const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, automargin: true };
    return { layout: {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 12 },
      xaxis: axis, yaxis: axis, margin: { l: 56, r: 14, t: 14, b: 46 }, hovermode: "closest",
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    } };
  }

  function draw(target) {
    if (target.dataset.drawn) return;
    target.dataset.drawn = "yes";
    const source = target.closest("figure").querySelector("script[type='application/json']");
    const figure = JSON.parse(source.textContent);
    Plotly.newPlot(target, figure.data, { ...figure.layout, template: template() }, options);
  }

  const charts = all(".chart");
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        watcher.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "400px" });
  charts.forEach((target) => watcher.observe(target));

  const recolour = () => charts.filter((target) => target.dataset.drawn).forEach((target) =>
    Plotly.relayout(target, { template: template() }));
  dark.addEventListener("change", recolour);
  window.addEventListener("beforeprint", () => {
    printing = true;
    for (const target of charts) {
      if (target.closest("details:not([open])")) continue;
      draw(target);
      const wide = target.closest("figure").classList.contains("wide");
      const small = target.closest(".figures.small");
      Plotly.relayout(target, { template: template(), width: wide ? 980 : small ? 310 : 470 });
    }
  });
  window.addEventListener("afterprint", () => {
    printing = false;
    for (const target of charts.filter((one) => one.dataset.drawn)) {
      Plotly.relayout(target, { template: template(), width: null, autosize: true });
    }
  });

  // ---- a page that is served while the search runs ----------------------------------------------------------------
  if (document.body.hasAttribute("data-live") && location.protocol.startsWith("http")) {
    const key = "where I was";
    const kept = JSON.parse(sessionStorage.getItem(key) || "null");
    if (kept) {
      for (const [place, value] of kept.fields.entries()) {
        const field = all(".filters input, .filters select")[place];
        if (!field) continue;
        if (field.type === "checkbox") field.checked = value; else field.value = value;
      }
      all("form.filters").forEach(filter);
      for (const name of kept.opened) {
        const detail = document.getElementById(name);
        if (detail) open(detail.previousElementSibling, detail, true);
      }
      window.scrollTo({ top: kept.top, behavior: "instant" });
    }
    let version = null;
    setInterval(async () => {
      try {
        const now = (await fetch("version", { cache: "no-store" })).headers.get("ETag");
        if (version !== null && now !== version) {
          const fields = all(".filters input, .filters select").map((field) =>
            field.type === "checkbox" ? field.checked : field.value);
          const opened = all("tr.detail:not([hidden])").map((detail) => detail.id);
          sessionStorage.setItem(key, JSON.stringify({ fields, opened, top: window.scrollY }));
          location.reload();
        }
        version = now;
      } catch {
        document.title = `(ended) ${document.title.replace("(ended) ", "")}`;  // nobody serves it any more
      }
    }, 3000);
  }
})();
