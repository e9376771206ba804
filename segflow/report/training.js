(() => {
  "use strict";
  const charts = document.querySelector(".charts");
  const reader = document.querySelector(".reader");
  if (!charts || !reader) return;
  const row = (text) => (text ? text.split(" ").map(Number) : []);
  const low = Number(charts.dataset.low);
  const high = Number(charts.dataset.high);
  const slider = reader.querySelector("input");
  const output = reader.querySelector("output");
  const clock = { x: row(reader.dataset.x), y: row(reader.dataset.seconds) };
  const plots = [...charts.querySelectorAll(".chart")].map((chart) => {
    const lines = [...chart.querySelectorAll("path.line")].map((path) => ({ x: row(path.dataset.x), y: row(path.dataset.y) }));
    return { svg: chart.querySelector("svg.plot"), cursor: chart.querySelector(".cursor"), lines, shown: [...chart.querySelectorAll("[data-value]")] };
  });
  const nearest = (xs, x) => {
    let a = 0, b = xs.length - 1;
    while (b - a > 1) {
      const middle = (a + b) >> 1;
      if (xs[middle] <= x) a = middle; else b = middle;
    }
    return Math.abs(xs[b] - x) < Math.abs(xs[a] - x) ? b : a;
  };
  const number = (value) => {
    if (!Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    return size >= 0.1 && size < 10 ? value.toFixed(3) : String(Number(value.toPrecision(3)));
  };
  const time = (seconds) => {
    const minutes = Math.floor(seconds / 60);
    if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
    return minutes ? `${minutes} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s` : `${seconds.toFixed(1)} s`;
  };
  const show = (step, cursor = true) => {
    for (const plot of plots) {
      const place = `${(100 * (step - low)) / (high - low)}%`;
      plot.cursor.setAttribute("x1", place);
      plot.cursor.setAttribute("x2", place);
      plot.cursor.setAttribute("visibility", cursor ? "visible" : "hidden");
      plot.lines.forEach((line, k) => {
        if (line.x.length) plot.shown[k].textContent = number(line.y[nearest(line.x, step)]);
      });
    }
    const seconds = clock.x.length ? ` · ${time(clock.y[nearest(clock.x, step)])}` : "";
    output.textContent = `${step.toLocaleString("en")}${seconds}`;
    slider.value = step;
  };
  for (const plot of plots) {
    plot.svg.addEventListener("pointermove", (event) => {
      const frame = plot.svg.getBoundingClientRect();
      const part = Math.min(1, Math.max(0, (event.clientX - frame.left) / frame.width));
      show(Math.min(Number(slider.max), Math.max(Number(slider.min), Math.round(low + part * (high - low)))));
    });
    plot.svg.addEventListener("pointerleave", () => show(Number(slider.max), false));
  }
  slider.min = Math.floor(low);
  slider.addEventListener("input", () => show(Number(slider.value)));
  show(Number(slider.max), false);
  reader.hidden = false;
})();
