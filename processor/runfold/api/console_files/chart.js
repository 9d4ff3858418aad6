// Lines over time. Beside each chart stands a table with the same numbers, so the chart itself is one image to assistive tools.

import { el } from "./dom.js";
import { along, compact } from "./format.js";

const COLOURS = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5", "--line-6", "--line-7", "--line-8"];

/**
 * A chart of `series` ({label, values}) over `times` (Unix seconds).
 * `show` turns a value into text, `least` is the top of a chart of nothing; `zoomed(begin, end)` is called where a person has
 * dragged over a stretch of time.
 */
export function chart(label, times, series, { signal, show = compact, zoomed = null, least = 1, height = 220, bars = false }) {
  const place = el("div", { class: "chart", role: "img", "aria-label": label });
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--edge"), width: 1 }, ticks: { show: false } };
  const drawn = bars ? { paths: uPlot.paths.bars({ size: [0.8, 60] }) } : {};
  const margin = (first, last) => (bars ? (last - first) / Math.max(1, times.length - 1) / 2 || 1_800 : 0);
  const heights = (values) => (bars ? values.map((value) => value || null) : values); // a bar of nothing is none
  let plot = null;
  const options = () => ({
    width: Math.max(240, place.clientWidth),
    height,
    padding: [12, 24, 0, 0],
    cursor: { drag: { x: zoomed !== null, y: false, setScale: false } },
    legend: { live: false },
    axes: [{ ...axis, values: (_, points) => along(points), space: 70 }, { ...axis, size: 56, values: (_, ticks) => ticks.map(show) }],
    scales: {
      x: { range: (_, first, last) => [first - margin(first, last), last + margin(first, last)] },
      y: { range: (_, low, high) => [0, Math.max(high ?? 0, least) * 1.1] },
    },
    hooks: { setSelect: [select] },
    series: [
      {},
      ...series.map(({ label: name }, at) => ({
        label: name,
        stroke: colour(COLOURS[at % COLOURS.length]),
        fill: bars ? colour(COLOURS[at % COLOURS.length]) : undefined,
        width: 2,
        points: { show: times.length < 3 },
        ...drawn,
      })),
    ],
  });
  function select({ select: chosen }) {
    if (zoomed !== null && chosen.width > 4) {
      zoomed(plot.posToVal(chosen.left, "x"), plot.posToVal(chosen.left + chosen.width, "x"));
    }
  }
  const draw = () => {
    plot?.destroy();
    plot = new uPlot(options(), [times, ...series.map(({ values }) => heights(values))], place);
  };
  const watching = new ResizeObserver(() => {
    if (plot === null) draw();
    else plot.setSize({ width: Math.max(240, place.clientWidth), height });
  });
  watching.observe(place);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", draw, { signal });
  signal.addEventListener("abort", () => watching.disconnect());
  return {
    place,
    update(newTimes, newValues) {
      times = newTimes;
      series.forEach((one, at) => (one.values = newValues[at]));
      plot?.setData([newTimes, ...newValues.map(heights)]);
    },
  };
}
