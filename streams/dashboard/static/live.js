// What the libraries leave to do: times in the reader's zone, charts, and asking where events cannot be sent.
// Everything works without it.
"use strict";

function localTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    if (!Number.isNaN(at.getTime())) element.textContent = at.toLocaleString();
  }
}

function drawCharts(root) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  for (const figure of root.querySelectorAll("figure[data-chart]")) {
    const {since, span, rows} = JSON.parse(figure.dataset.chart);
    const names = figure.dataset.names.split(",");
    const at = rows[0].map((_, index) => since + span * index);
    // Bars stand on each other: the longest is drawn first, and the others over it.
    const sums = rows[0].map((done, index) => [done, done + rows[1][index], done + rows[1][index] + rows[2][index]]);
    const colours = ["--done", "--retried", "--dead"];
    const series = [2, 1, 0].map((level) => ({
      label: names[level],
      fill: colour(colours[level]),
      stroke: colour(colours[level]),
      width: 0,
      points: {show: false},
      paths: uPlot.paths.bars({size: [0.8, 40], align: 1}),
      value: (_, __, ___, index) => (index === null ? "–" : rows[level][index]),
    }));
    const axis = {stroke: colour("--dim"), grid: {stroke: colour("--line"), width: 1}, ticks: {show: false}};
    const options = {
      width: figure.clientWidth,
      height: 150,
      series: [{}, ...series],
      axes: [axis, {...axis, size: 60}],
      scales: {x: {range: [since, since + span * at.length]}, y: {range: (_, __, top) => [0, Math.max(top, 1)]}},
      cursor: {drag: {x: false, y: false}},
    };
    const data = [at, ...[2, 1, 0].map((level) => sums.map((sum) => sum[level]))];
    const drawing = figure.querySelector("svg");
    const label = drawing.getAttribute("aria-label");
    drawing.remove();
    const plot = new uPlot(options, data, figure);
    plot.root.querySelector("canvas").setAttribute("role", "img");
    plot.root.querySelector("canvas").setAttribute("aria-label", label);
    figure.removeAttribute("data-chart");
    figure.plot = plot;
  }
}

function prepare(root) {
  localTimes(root);
  drawCharts(root);
}

prepare(document);
document.body.addEventListener("htmx:load", (event) => prepare(event.detail.elt));

// Who reads or chooses something in a live part is not disturbed.
document.body.addEventListener("htmx:sseBeforeMessage", (event) => {
  const part = event.target;
  part.classList.remove("stale");
  if (part.contains(document.activeElement) || document.hidden) event.preventDefault();
});

function poll(part) {
  if (part.asking || !document.body.contains(part)) return;
  part.asking = setInterval(() => {
    if (document.hidden || part.contains(document.activeElement)) return;
    fetch(part.dataset.poll, {headers: {Accept: "text/html"}, credentials: "same-origin"})
      .then((answer) => (answer.ok && !answer.redirected ? answer.text() : Promise.reject(answer.status)))
      .then((text) => {
        const fresh = new DOMParser().parseFromString(text, "text/html").body;
        localTimes(fresh);
        part.replaceChildren(...fresh.childNodes);
        part.classList.remove("stale");
      })
      .catch(() => part.classList.add("stale"));
  }, 5000);
}

document.body.addEventListener("htmx:sseError", (event) => poll(event.target));
document.body.addEventListener("htmx:sseOpen", (event) => {
  const part = event.target;
  clearInterval(part.asking);
  part.asking = 0;
  event.detail.source.addEventListener("stale", () => part.classList.add("stale"));
});
if (!window.EventSource) document.querySelectorAll("[data-poll]").forEach(poll);

window.addEventListener("resize", () => {
  for (const figure of document.querySelectorAll("figure.chart")) {
    if (figure.plot) figure.plot.setSize({width: figure.clientWidth, height: 150});
  }
});
