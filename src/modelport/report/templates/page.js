// Charts in the theme's colours, tables that sort by their heads, and everything laid out for print.
(() => {
  "use strict";
  const DARK = {{ dark|tojson }}; // a chart's colours in the light theme: what they are in the dark one
  const PRINT_WIDTH = 690; // pixels that A4 and Letter have between the margins
  const CONFIG = {displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d", "zoomIn2d", "zoomOut2d"]};
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const plots = [...document.querySelectorAll(".plot")];
  const figures = new Map(plots.map((plot) => [plot, JSON.parse(document.querySelector(`script[data-for="${CSS.escape(plot.id)}"]`).textContent)]));

  function recolored(value) {
    if (typeof value === "string") return DARK[value] ?? value;
    if (Array.isArray(value)) return value.map(recolored);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, recolored(inner)]));
  }

  const shown = (plot) => plot.getClientRects().length > 0; // not in closed details

  function draw(plot, printing = false) {
    if (!window.Plotly || !shown(plot)) return;
    const source = figures.get(plot);
    // Plotly writes into what it is given, so each drawing has a copy.
    const figure = dark.matches && !printing ? recolored(source) : structuredClone(source);
    if (printing) Object.assign(figure.layout, {width: PRINT_WIDTH, autosize: false});
    window.Plotly.newPlot(plot, figure.data, figure.layout, CONFIG);
    // Its description and its table are for those who do not see it; loose numbers from the axes are not.
    for (const picture of plot.querySelectorAll(".svg-container > svg")) picture.setAttribute("aria-hidden", "true");
  }

  const drawAll = (printing) => plots.forEach((plot) => draw(plot, printing));

  async function loadLibrary() {
    const packed = document.getElementById("plotly");
    if (!packed || !plots.length) return;
    const bytes = Uint8Array.from(atob(packed.textContent), (character) => character.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(plain).text();
    document.head.append(script);
  }

  loadLibrary().then(() => drawAll(false)).catch(() => {
    for (const note of document.querySelectorAll(".plot .missing")) note.hidden = false;
  });
  dark.addEventListener("change", () => drawAll(false));
  for (const part of document.querySelectorAll("details")) {
    part.addEventListener("toggle", () => part.open && part.querySelectorAll(".plot").forEach((plot) => draw(plot)));
  }

  // On paper nothing can be opened: commands are shown, charts are drawn anew for its width and in the light colours.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.commands:not([open])")];
    for (const part of opened) part.open = true;
    drawAll(true);
  });
  addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
    drawAll(false);
  });

  // -- tables

  function figure(text) { // the first number of a cell, or null: "1,234.5 at batch 8" is 1234.5
    const found = text.replaceAll(",", "").replaceAll("\u2212", "-").match(/^[^\d+-]{0,2}([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)/i);
    return found ? Number(found[1]) : null;
  }

  function compare(one, other, sign) {
    const [a, b] = [figure(one), figure(other)];
    if (a !== null && b !== null) return sign * (a - b);
    if (a !== null || b !== null) return a === null ? 1 : -1; // what has no figure comes last, either way
    return sign * one.localeCompare(other, undefined, {numeric: true});
  }

  function sort(table, head) {
    const column = head.cellIndex;
    const order = head.getAttribute("aria-sort") === "descending" ? "ascending" : head.getAttribute("aria-sort") === "ascending" ? "descending" : head.classList.contains("n") ? "descending" : "ascending";
    for (const other of table.tHead.rows[0].cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const text = (row) => row.cells[column].textContent.trim();
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => compare(text(a), text(b), sign)));
  }

  for (const table of document.querySelectorAll("table")) {
    if (!table.tHead || table.tBodies[0].rows.length < 2) continue;
    for (const head of table.tHead.querySelectorAll("th")) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => sort(table, head));
    }
  }
})();
