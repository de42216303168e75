// Learning curves with uPlot: of each arm the mean of its seeds in a band from the least to the greatest.
(() => {
  const box = document.querySelector(".curves");
  if (!box) return;
  const plot = box.querySelector(".plot"), legend = box.querySelector(".legend"), metric = box.querySelector("[data-metric]");
  const rows = JSON.parse(box.dataset.rows ?? "[]");
  // Okabe and Ito's palette; its black and its light tones give way where the page is dark.
  const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07d00", "#3a8fc4", "#444444"];
  const DARK = ["#5cb0e6", "#ff9a5c", "#3fd0a3", "#e3a3c8", "#e6b333", "#9ad2f5", "#d0d0d0"];
  const DASHES = [[], [7, 3]];
  const off = new Set();
  let chart = null, data = null;

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dark = () => css("color-scheme") === "dark" || getComputedStyle(document.documentElement).colorScheme === "dark";

  const draw = () => {
    const colours = dark() ? DARK : LIGHT;
    const series = [{label: "epoch"}], values = [data.epochs], bands = [];
    data.rows.forEach((row, at) => {
      const colour = colours[at % colours.length], show = !off.has(row.id), first = values.length;
      if (row.low) {
        const edge = {show, width: 0, points: {show: false}, stroke: colour};
        series.push({...edge, label: "high"}, {...edge, label: "low"});
        values.push(row.high, row.low);
        bands.push({series: [first, first + 1], fill: colour + "2e"});
      }
      series.push({label: row.title, show, stroke: colour, width: 1.8, dash: DASHES[Math.floor(at / colours.length) % 2], points: {show: data.epochs.length <= 30, size: 5}});
      values.push(row.mean);
    });
    chart?.destroy();
    const axis = {stroke: css("--faint"), grid: {stroke: css("--rule"), width: 1}, ticks: {stroke: css("--rule"), width: 1}, font: "12px system-ui, sans-serif"};
    chart = new uPlot({
      width: plot.clientWidth, height: Math.max(280, Math.min(420, plot.clientWidth * 0.5)), legend: {show: false}, series, bands,
      scales: {x: {time: false, range: (_, low, high) => [low - 0.2, high + 0.2]}},
      axes: [{...axis, incrs: [1, 2, 5, 10, 20, 50, 100], label: "epoch", labelSize: 20, labelFont: "12px system-ui, sans-serif"}, {...axis, size: 56}],
      hooks: {setCursor: [told]},
    }, values, plot);
  };

  // The legend is made of check boxes: by keyboard too, with the values under the cursor.
  const list = () => {
    legend.replaceChildren(...data.rows.map((row, at) => {
      const colours = dark() ? DARK : LIGHT;
      const label = document.createElement("label"), tick = document.createElement("input"), value = document.createElement("span");
      tick.type = "checkbox"; tick.checked = !off.has(row.id);
      tick.addEventListener("change", () => { if (tick.checked) off.delete(row.id); else off.add(row.id); draw(); });
      const line = document.createElementNS("http://www.w3.org/2000/svg", "svg"), stroke = document.createElementNS("http://www.w3.org/2000/svg", "path");
      line.setAttribute("viewBox", "0 0 26 8"); line.setAttribute("aria-hidden", "true");
      stroke.setAttribute("d", "M0 4H26"); stroke.setAttribute("stroke", colours[at % colours.length]); stroke.setAttribute("stroke-width", "3");
      if (at >= colours.length) stroke.setAttribute("stroke-dasharray", "7 3");
      line.append(stroke);
      value.className = "num faint"; value.dataset.at = at;
      label.append(tick, line, row.title, value);
      return label;
    }));
  };

  const told = (chart) => {
    const at = chart.cursor.idx;
    for (const value of legend.querySelectorAll("[data-at]")) {
      const mean = at == null ? null : data.rows[value.dataset.at]?.mean[at];
      value.textContent = mean == null ? "" : mean.toFixed(Math.abs(mean) < 0.1 ? 5 : Math.abs(mean) < 10 ? 3 : 1);
    }
  };

  const load = async () => {
    // Of a study: one metric of many arms. Of a trial: all of its metrics, of which those of a family are shown.
    const query = new URLSearchParams({metric: metric.value});
    for (const row of rows) query.append("row", row);
    const answer = await fetch(box.dataset.from ?? `/studies/${box.dataset.study}/curves?${query}`);
    if (!answer.ok) return;
    data = await answer.json();
    if (box.dataset.from) data.rows = data.rows.filter((row) => row.id.startsWith(metric.value));
    if (!data.rows.length) {
      chart?.destroy(); chart = null;
      plot.textContent = `No epoch with ${metric.value} yet.`; legend.replaceChildren();
      return;
    }
    if (!chart) plot.replaceChildren();
    list(); draw();
    box.dataset.drawn = metric.value;
  };

  metric.addEventListener("change", load);
  document.addEventListener("fresh", load);
  document.addEventListener("theme", () => { if (data?.rows.length) { list(); draw(); } });
  new ResizeObserver(() => { if (chart && Math.abs(chart.width - plot.clientWidth) > 4) draw(); }).observe(plot);
  load();
})();
