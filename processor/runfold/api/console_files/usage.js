// Usage and cost over time: as a chart to drag over, as tables, and as a file. What is asked stands in the address.

import { ask, save } from "./api.js";
import { chart } from "./chart.js";
import { choice, el, table } from "./dom.js";
import { compact, count, roundUsd, seconds, usd } from "./format.js";

const HOUR = 3_600;
const DAY = 86_400;
const RANGES = [[HOUR, "last hour"], [6 * HOUR, "last 6 hours"], [DAY, "last day"], [7 * DAY, "last 7 days"], [30 * DAY, "last 30 days"]];
const WIDTHS = { "1m": [60, 1440], "1h": [HOUR, 168], "1d": [DAY, 31] };
const GROUPS = ["model", "project_id", "assistant_id", "user_id", "api_key_id", "status"];
const METRICS = {
  total_tokens: ["Tokens", (one) => one.runfold.total_tokens],
  input_tokens: ["Input tokens", (one) => one.input_tokens],
  output_tokens: ["Output tokens", (one) => one.output_tokens],
  input_cached_tokens: ["Cached input tokens", (one) => one.input_cached_tokens],
  reasoning_tokens: ["Reasoning tokens", (one) => one.runfold.reasoning_tokens],
  runs: ["Ended runs", (one) => one.runfold.runs],
  without_usage: ["Runs without usage", (one) => one.runfold.without_usage],
  cost: ["Cost (USD)", (one) => one.amount.value],
};
const MOST_LINES = 7;

export async function usage(body, { signal, query }) {
  const asked = reading(query);
  body.append(form(asked));
  const shown = el("div", { "aria-live": "polite" }, el("p", { class: "hint" }, "Adding up…"));
  body.append(shown);
  const found = await ask(asked.path, asked.query, signal);
  shown.replaceChildren(...view(found, asked, signal));
}

/** What the address asks for: the period, how wide buckets are, by what to group, and which number. */
function reading(query) {
  const metric = query.get("metric") in METRICS ? query.get("metric") : "total_tokens";
  const cost = metric === "cost";
  const now = Math.ceil(Date.now() / 60_000) * 60;
  const range = Number(query.get("range")) || DAY;
  const end = Number(query.get("end")) || now;
  const start = Number(query.get("start")) || end - range;
  const fitting = Object.keys(WIDTHS).filter((name) => (end - start) / WIDTHS[name][0] <= WIDTHS[name][1] - 1);
  const auto = end - start <= 6 * HOUR ? "1m" : end - start <= 3 * DAY ? "1h" : "1d";
  const width = cost ? "1d" : fitting.includes(query.get("width")) ? query.get("width") : fitting.includes(auto) ? auto : "1d";
  const groups = cost ? GROUPS.filter((name) => name !== "status") : GROUPS;
  const group = groups.includes(query.get("group")) ? query.get("group") : "";
  return {
    metric, range, start, end, width, group, fitting, groups, cost,
    zoomed: query.has("start"),
    path: cost ? "/v1/organization/costs" : "/v1/organization/usage/completions",
    query: {
      start_time: Math.floor(start), end_time: Math.floor(end), bucket_width: width,
      limit: cost ? 180 : WIDTHS[width][1], "group_by[]": group,
      timezone: width === "1d" ? Intl.DateTimeFormat().resolvedOptions().timeZone : null, // whose days
    },
  };
}

function go(change) {
  const told = new URLSearchParams(location.hash.split("?")[1] ?? "");
  for (const [name, value] of Object.entries(change)) {
    if (value === null || value === "") told.delete(name);
    else told.set(name, value);
  }
  location.hash = `#/usage?${told}`;
}

function form(asked) {
  const made = el("form", { class: "card filters", "aria-label": "What to show", onsubmit: (event) => event.preventDefault() },
    choice("Number", "metric", Object.entries(METRICS).map(([name, [label]]) => [name, label]), asked.metric),
    choice("Period", "range", RANGES.map(([length, text]) => [String(length), text]), String(asked.range)),
    choice("Buckets", "width", (asked.cost ? ["1d"] : asked.fitting).map((name) => [name, { "1m": "minutes", "1h": "hours", "1d": "days" }[name]]), asked.width),
    choice("By", "group", [["", "all together"], ...asked.groups.map((name) => [name, name.replace("_id", "").replace("_", " ")])], asked.group),
    el("div", { class: "field actions" },
      el("button", { type: "button", onclick: () => exported(asked) }, "Export CSV"),
      asked.zoomed ? el("button", { type: "button", class: "quiet", onclick: () => go({ start: null, end: null }) }, "Zoom out") : null));
  made.addEventListener("change", ({ target }) => go({ [target.name]: target.value, ...(target.name === "range" ? { start: null, end: null } : {}) }));
  return made;
}

function exported(asked) {
  const { limit, ...query } = asked.query;
  save(asked.path, { ...query, format: "csv" }, `${asked.cost ? "costs" : "usage"}.csv`);
}

function view(found, asked, signal) {
  const [label, number] = METRICS[asked.metric];
  const show = asked.cost ? usd : count;
  const rows = found.data.flatMap((bucket) => bucket.results.map((one) => ({ bucket, name: nameOf(one, asked), value: number(one) })));
  const totals = new Map();
  for (const { name, value } of rows) totals.set(name, added(totals.get(name) ?? null, value));
  const names = [...totals].sort((one, other) => (other[1] ?? 0) - (one[1] ?? 0)).map(([name]) => name);
  const title = `${label}, ${seconds(asked.start).slice(0, 16)} to ${seconds(asked.end).slice(0, 16)}`;
  return [
    el("section", { class: "card wide" }, el("h2", {}, title), drawn(found, rows, names, asked, signal),
      el("p", { class: "hint" }, "Drag over the chart to zoom. ", note(found, asked))),
    el("div", { class: "columns" },
      el("section", { class: "card" }, table("Sums", [
        { name: asked.group ? asked.group.replace("_id", "") : "Group", cell: ([name]) => name },
        { name: label, number: true, cell: ([, total]) => show(total) ?? "unknown" },
      ], names.map((name) => [name, totals.get(name)]), { empty: "Nothing was used in this time." })),
      el("section", { class: "card" }, table("By time", [
        { name: "From", cell: ({ bucket }) => seconds(bucket.start_time).slice(0, 16) },
        { name: asked.group ? asked.group.replace("_id", "") : "Group", cell: ({ name }) => name },
        { name: label, number: true, cell: ({ value }) => show(value) ?? "unknown" },
      ], rows.slice().reverse().slice(0, 500), { empty: "Nothing was used in this time." }))),
  ];
}

const added = (total, value) => (value === null ? total : (total ?? 0) + value);
const nameOf = (one, { group }) => (group ? one[group] ?? "unknown" : "all");

/** The largest groups have lines of their own; the others share one. */
function drawn(found, rows, names, asked, signal) {
  const own = names.length > MOST_LINES + 1 ? names.slice(0, MOST_LINES) : names;
  const lines = own.length < names.length ? [...own, "others"] : own;
  const at = new Map(found.data.map((bucket, place) => [bucket.start_time, place]));
  const values = lines.map(() => found.data.map(() => 0));
  for (const { bucket, name, value } of rows) {
    const line = own.includes(name) ? lines.indexOf(name) : lines.length - 1;
    values[line][at.get(bucket.start_time)] += value ?? 0;
  }
  const zoomed = (begin, end) => {
    if (end - begin >= 120) go({ start: Math.floor(begin / 60) * 60, end: Math.ceil(end / 60) * 60, width: null });
  };
  return chart(
    `${METRICS[asked.metric][0]} over time; the tables below have the same numbers`,
    found.data.map((bucket) => bucket.start_time),
    (lines.length ? lines : ["all"]).map((label, place) => ({ label, values: values[place] ?? found.data.map(() => 0) })),
    { signal, show: asked.cost ? roundUsd : compact, zoomed, least: asked.cost ? 0.01 : 1, height: 260, bars: lines.length < 2 },
  ).place;
}

function note(found, asked) {
  const unknown = found.data.flatMap((bucket) => bucket.results).reduce((total, one) =>
    total + one.runfold.without_usage + (one.runfold.without_price ?? 0), 0);
  const told = unknown ? `${count(unknown)} runs ${asked.cost ? "have no cost" : "told no usage"}: they count as unknown, not as 0. ` : "";
  return asked.cost ? `${told}Prices: ${(found.runfold?.price_lists ?? []).join(", ")}; tiers by request size are not applied.` : told;
}
