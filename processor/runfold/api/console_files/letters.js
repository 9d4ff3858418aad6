// Records that could not be folded, and why.

import { ask } from "./api.js";
import { el, table } from "./dom.js";
import { count, time } from "./format.js";

export async function letters(body, { signal }) {
  const rows = [];
  const shown = el("section", { class: "card" });
  const more = el("button", { type: "button", hidden: true }, "More");
  body.append(shown, more);
  let cursor = null;
  const load = async () => {
    const page = await ask("/v1/runfold/dead-letters", { limit: 50, cursor }, signal);
    cursor = page.next_cursor;
    rows.push(...page.data);
    more.hidden = !page.has_more;
    shown.replaceChildren(table(`${count(rows.length)} dead letters, in the log's order`, [
      { name: "Place", cell: (one) => `${one.partition}:${one.offset}` },
      { name: "Published", cell: (one) => time(one.timestamp) },
      { name: "Reason", cell: (one) => one.reason },
      { name: "Detail", cell: (one) => one.detail },
      { name: "Run", cell: (one) => one.run_id && el("a", { href: `#/runs/${encodeURIComponent(one.run_id)}` }, one.run_id) },
    ], rows, { empty: "There is none." }));
  };
  more.addEventListener("click", load);
  await load();
}
