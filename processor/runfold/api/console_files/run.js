// One run: how it stands, when it entered which status, and what each of its records changed. Followed as long as it is shown.

import { ask, follow } from "./api.js";
import { el, facts, status, table } from "./dom.js";
import { count, seconds, span, time, value } from "./format.js";
import { took } from "./runs.js";

export async function run(body, { signal, parts: [id], heading }) {
  heading.textContent = id;
  document.title = `${id} · runfold`;
  const path = `/v1/runfold/runs/${encodeURIComponent(id)}`;
  const state = el("section", { "aria-live": "polite" });
  const history = el("section", { class: "card wide" });
  history.append(el("p", { class: "hint" }, "Reading its records from the log…"));
  body.append(state, history);
  const look = async () => {
    const known = await ask(path, {}, signal);
    state.replaceChildren(...shown(known));
    const told = await ask(`${path}/history`, {}, signal).catch((error) => ({ error }));
    if (!signal.aborted) history.replaceChildren(...records(told));
  };
  await look();
  await follow({ run_id: id }, signal, () => look().catch(() => null));
}

function shown(known) {
  const { run } = known;
  return [
    el("div", { class: "columns" },
      el("section", { class: "card" }, el("h2", {}, "Now"), facts([
        ["Status", status(run.status)],
        ["Flags", known.flags.join(", ")],
        ["Model", run.model],
        ["Assistant", run.assistant_id],
        ["Thread", el("a", { href: `#/runs?thread_id=${encodeURIComponent(run.thread_id)}` }, run.thread_id)],
        ["Created", seconds(run.created_at)],
        ["Started", seconds(run.started_at)],
        ["Took", took(run)],
        ["Expires", seconds(run.expires_at)],
        ["Error", run.last_error && `${run.last_error.code}: ${run.last_error.message}`],
        ["Incomplete because", run.incomplete_details?.reason],
        ["Log", `partition ${known.partition}, offsets ${known.first_offset} to ${known.last_offset}`],
        ["Missing numbers", known.missing.map((gap) => `${gap.first} to ${gap.last}`).join(", ")],
        ["Split", known.split && "its records lie on several partitions: publish with one partitioner"],
      ])),
      el("section", { class: "card" }, el("h2", {}, "Timeline"), timeline(known), usageOf(run)),
    ),
    el("details", { class: "card wide" }, el("summary", {}, "The Run as clients get it"),
      el("pre", { tabindex: 0 }, JSON.stringify(run, null, 2))),
  ];
}

function timeline({ timeline: entries }) {
  return el("ol", { class: "timeline" }, entries.map((entry, place) => {
    const next = entries[place + 1];
    return el("li", {},
      el("span", { class: "when" }, time(entry.at)),
      status(entry.status),
      next && next.at > entry.at ? el("span", { class: "hint" }, `for ${span(next.at - entry.at)}`) : null);
  }));
}

function usageOf({ usage }) {
  if (!usage) return el("p", { class: "hint" }, "No usage has been told.");
  return facts([
    ["Prompt tokens", count(usage.prompt_tokens)],
    ["of them cached", count(usage.prompt_token_details?.cached_tokens)],
    ["Completion tokens", count(usage.completion_tokens)],
    ["of them reasoning", count(usage.completion_tokens_details?.reasoning_tokens)],
    ["Total tokens", count(usage.total_tokens)],
  ]);
}

function records(told) {
  const title = el("h2", {}, "What each record changed");
  if (told.error) return [title, el("p", { class: "problem" }, told.error.message)];
  return [title, table("Records of this run in the log", [
    { name: "Place", cell: (one) => `${one.partition}:${one.offset}` },
    { name: "Published", cell: (one) => time(one.timestamp) },
    { name: "Event", cell: (one) => (one.type ?? "unreadable").replace("thread.run.", "") },
    { name: "Outcome", cell: (one) => el("span", { class: `outcome outcome-${one.outcome}` }, one.outcome) },
    { name: "Changed", cell: changed },
    { name: "Usage", cell: moved },
  ], told.data, { hidden: true })];
}

function changed(one) {
  const fields = Object.entries(one.changed);
  if (!fields.length) return el("span", { class: "hint" }, one.reason ?? one.explanation);
  return el("ul", { class: "changes" }, fields.map(([name, { before, after }]) =>
    el("li", {}, el("code", {}, name), " ",
      before === null ? null : [el("del", {}, short(name, before)), " → "], el("ins", {}, short(name, after)))));
}

function short(name, told) {
  const text = name.endsWith("_at") && typeof told === "number" ? seconds(told) : value(told);
  return text.length > 120 ? `${text.slice(0, 120)}…` : text;
}

function moved(one) {
  if (!one.usage.length) return null;
  return el("ul", { class: "changes" }, one.usage.map((move) =>
    el("li", {}, `${seconds(move.minute * 60).slice(0, 16)} ${move.model ?? "unknown"} `,
      Object.entries(move.added).filter(([, number]) => number).map(([name, number]) =>
        el("span", { class: "chip" }, `${name} ${number > 0 ? "+" : ""}${count(number)}`)))));
}
