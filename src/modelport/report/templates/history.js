// The filters of the history's page: they hide rows of both tables, and take points out of the charts.
(() => {
  "use strict";
  const entries = JSON.parse(document.getElementById("entries-data").textContent);
  const form = document.getElementById("filters");
  const field = (name) => document.getElementById(`filter-${name}`);
  const plots = () => [...document.querySelectorAll(".plot")];
  const sources = new Map();

  // Engine, precision and batch size have to fit the same figure.
  function fits(tags, wanted) {
    return wanted.every((value, place) => !value || value === tags[place]);
  }

  function wanted() {
    return {
      text: field("text").value.trim().toLowerCase(),
      kind: field("kind").value,
      verdict: field("verdict").value,
      since: field("since").value,
      tags: ["engine", "precision", "batch"].map((name) => field(name).value),
    };
  }

  function passing(filter) {
    return new Set(entries.filter((entry) =>
      entry.text.includes(filter.text) && (!filter.kind || entry.kind === filter.kind) && (!filter.verdict || entry.verdict === filter.verdict)
      && entry.started >= filter.since && (filter.tags.every((value) => !value) || entry.figures.some((tags) => fits(tags, filter.tags)))
    ).map((entry) => entry.id));
  }

  function filterRows(shown, filter) {
    for (const row of document.querySelectorAll("tr[data-entry]")) {
      const own = row.dataset.tags ? fits(JSON.parse(row.dataset.tags), filter.tags) : true;
      row.hidden = !shown.has(row.dataset.entry) || !own;
    }
    document.getElementById("shown").textContent = `${shown.size.toLocaleString("en")} of ${entries.length.toLocaleString("en")} shown.`;
  }

  function source(plot) { // a chart's traces, whole
    if (!sources.has(plot)) sources.set(plot, JSON.parse(document.querySelector(`script[data-for="${CSS.escape(plot.id)}"]`).textContent).data);
    return sources.get(plot);
  }

  function filterChart(plot, shown, filter) {
    if (!window.Plotly || !plot.data) return;
    const update = {x: [], y: [], text: [], customdata: [], "marker.symbol": [], visible: []};
    for (const trace of source(plot)) {
      const kept = trace.customdata.map((id, place) => place).filter((place) => shown.has(trace.customdata[place]));
      for (const key of ["x", "y", "text", "customdata"]) update[key].push(kept.map((place) => trace[key][place]));
      update["marker.symbol"].push(kept.map((place) => trace.marker.symbol[place]));
      // A chart of accuracy knows no batch size.
      const tags = trace.meta[2] ? filter.tags : filter.tags.slice(0, 2);
      update.visible.push(kept.length > 0 && fits(trace.meta, tags));
    }
    window.Plotly.restyle(plot, update);
  }

  function apply() {
    const filter = wanted();
    const shown = passing(filter);
    filterRows(shown, filter);
    for (const plot of plots()) filterChart(plot, shown, filter);
  }

  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply)); // after the fields are empty
  // page.js draws all points anew then, and was there first or comes later: so after it.
  const again = () => setTimeout(apply);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  addEventListener("afterprint", again);
  // A point leads to its entry. Each drawing begins without listeners, so they are looked after when the pointer comes.
  for (const plot of plots()) plot.addEventListener("pointerenter", () => {
    plot.removeAllListeners?.("plotly_click");
    plot.on?.("plotly_click", (event) => { location.hash = `entry-${event.points[0].customdata}`; });
  });
})();
