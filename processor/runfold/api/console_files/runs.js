// Runs across threads, newest first, by what they are. The filter stands in the address, so that it can be kept and sent on.

import { ask } from "./api.js";
import { check, choice, el, input, status, table } from "./dom.js";
import { count, seconds, span } from "./format.js";

export const STATUSES = [
  "queued", "in_progress", "requires_action", "cancelling", "cancelled", "failed", "completed", "incomplete", "expired",
];
const FLAGS = ["incomplete", "missing", "flagged"];
const TIMES = ["created_after", "created_before"];

export async function runs(body, { signal, query }) {
  const rows = [];
  const shown = el("section", { class: "card", "aria-live": "polite" }, el("p", { class: "hint" }, "Looking…"));
  const more = el("button", { type: "button", hidden: true }, "More");
  body.append(filters(query), shown, more);
  let cursor = null;
  const load = async () => {
    more.disabled = true;
    shown.setAttribute("aria-busy", "true");
    let page;
    do {
      page = await ask("/v1/runfold/runs", { ...asked(query), limit: 50, cursor }, signal);
      cursor = page.next_cursor;
      rows.push(...page.data);
    } while (page.has_more && page.data.length === 0); // looking for what no index finds goes on page by page
    shown.removeAttribute("aria-busy");
    shown.replaceChildren(listed(rows));
    more.hidden = !page.has_more;
    more.disabled = false;
  };
  more.addEventListener("click", () => load().catch((error) => signal.aborted || refuse(shown, error)));
  await load();
}

function asked(query) {
  const told = Object.fromEntries(query);
  for (const name of TIMES) {
    if (told[name]) told[name] = Math.floor(new Date(told[name]).getTime() / 1000);
  }
  return told;
}

function refuse(place, error) {
  place.append(el("p", { class: "problem", role: "alert" }, error.message));
}

function filters(query) {
  const get = (name) => query.get(name) ?? "";
  const form = el(
    "form",
    { class: "filters", "aria-label": "Filter", onsubmit: (event) => { event.preventDefault(); go(form); } },
    choice("Status", "status", [["", "any"], ...STATUSES.map((name) => [name, name.replaceAll("_", " ")])], get("status")),
    input("Model", "model", get("model")),
    input("Assistant", "assistant_id", get("assistant_id")),
    input("Project", "project_id", get("project_id")),
    input("Thread", "thread_id", get("thread_id")),
    input("Created after", "created_after", get("created_after"), { type: "datetime-local" }),
    input("Created before", "created_before", get("created_before"), { type: "datetime-local" }),
    FLAGS.map((name) => check(name, name, query.has(name))),
    el("div", { class: "field actions" }, el("button", { type: "submit" }, "Filter"), el("a", { href: "#/runs" }, "Clear")),
  );
  const find = el("form", { class: "filters", "aria-label": "Find a run", onsubmit: (event) => {
    event.preventDefault();
    const id = new FormData(find).get("run").trim();
    if (id) location.hash = `#/runs/${encodeURIComponent(id)}`;
  } }, input("Run id", "run", "", { placeholder: "run_…" }), el("div", { class: "field actions" }, el("button", { type: "submit" }, "Open")));
  return el("div", { class: "card" }, find, form);
}

function go(form) {
  const told = [...new FormData(form)].filter(([, value]) => value !== "");
  const next = `#/runs?${new URLSearchParams(told)}`;
  if (location.hash === next) dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = next;
}

function listed(rows) {
  return table(`${count(rows.length)} runs, newest first`, [
    { name: "Run", cell: ({ run }) => el("a", { href: `#/runs/${encodeURIComponent(run.id)}` }, run.id) },
    { name: "Status", cell: ({ run }) => status(run.status) },
    { name: "Model", cell: ({ run }) => run.model },
    { name: "Assistant", cell: ({ run }) => run.assistant_id },
    { name: "Created", cell: ({ run }) => seconds(run.created_at) },
    { name: "Took", number: true, cell: ({ run }) => took(run) },
    { name: "Tokens", number: true, cell: ({ run }) => count(run.usage?.total_tokens) },
    { name: "Flags", cell: ({ flags }) => flags.join(", ") },
  ], rows, { empty: "No run is like that." });
}

export function took(run) {
  const ended = run.completed_at ?? run.failed_at ?? run.cancelled_at;
  return ended === null || run.started_at === null ? null : span((ended - run.started_at) * 1000);
}
