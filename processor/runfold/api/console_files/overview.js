// What is going on: runs by status, how fast the log is folded, what waits, what is wanting, and the last changes as they come.

import { ask, follow } from "./api.js";
import { chart } from "./chart.js";
import { el, status, table } from "./dom.js";
import { compact, count, seconds, span, time } from "./format.js";

const EVERY = 2_000;
const KEPT = 150; // looks: five minutes
const SHOWN = 15;

export async function overview(body, { signal }) {
  const tiles = el("div", { class: "tiles" });
  const statuses = el("section", { class: "card", "aria-label": "Runs by status" });
  const speed = el("section", { class: "card", "aria-label": "Throughput" });
  const changes = el("section", { class: "card wide", "aria-label": "Last changes" });
  body.append(tiles, el("div", { class: "columns" }, statuses, speed), changes);
  const looks = [];
  const shown = throughput(speed, signal);
  const look = async () => {
    const found = await ask("/v1/runfold/status", {}, signal);
    looks.push({ at: found.at, folded: sum(found.partitions.map((one) => one.position)) });
    if (looks.length > KEPT) looks.shift();
    showTiles(tiles, found, looks);
    showStatuses(statuses, found.runs);
    shown(looks);
  };
  const following = latest(changes, signal);
  await look();
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, EVERY));
    if (signal.aborted) return following;
    if (!document.hidden) await look().catch((error) => signal.aborted || note(tiles, error));
  }
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

function rate(looks) {
  if (looks.length < 2) return null;
  const [first, last] = [looks[Math.max(0, looks.length - 6)], looks[looks.length - 1]];
  return (last.folded - first.folded) / Math.max(0.001, (last.at - first.at) / 1000);
}

function showTiles(tiles, found, looks) {
  const fresh = found.runfold;
  const speed = rate(looks);
  const letters = sum(Object.values(found.dead_letters));
  const waits = fresh.lag ? `oldest waits ${span(fresh.lag_seconds * 1000)}` : "nothing waits";
  const workers = new Set(found.partitions.map((one) => one.owner).filter(Boolean)).size;
  const told = [
    ["Folded", speed === null ? "…" : `${compact(speed)}/s`, `${count(looks.at(-1).folded)} records in all`],
    ["Lag", fresh.lag === null ? "unknown" : count(fresh.lag), fresh.lag === null ? "the log is out of reach" : waits],
    ["Incomplete", count(fresh.incomplete), "created has not come", "#/runs?incomplete=true", fresh.incomplete],
    ["Missing", count(fresh.missing), "a numbered event has not come", "#/runs?missing=true", fresh.missing],
    ["Without usage", count(fresh.without_usage), "ended without telling tokens"],
    ["Dead letters", count(letters), "records that could not be folded", "#/letters", letters],
    ["Workers", count(workers), `for ${count(found.partitions.length)} partitions`, "#/partitions", workers === 0],
  ];
  tiles.replaceChildren(...told.map((one) => tile(...one)));
}

function tile(name, number, hint, link = null, attention = false) {
  const inner = [el("span", { class: "name" }, name), el("strong", {}, number), el("span", { class: "hint" }, hint)];
  return el(link ? "a" : "div", { class: attention ? "tile attention" : "tile", href: link }, inner);
}

function note(tiles, error) {
  tiles.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
}

function showStatuses(place, runs) {
  const most = Math.max(1, ...Object.values(runs));
  const bar = (number) => {
    const drawn = el("span", { class: "bar", "aria-hidden": "true" });
    drawn.style.width = `${(100 * number) / most}%`;
    return el("span", { class: "bars" }, drawn);
  };
  place.replaceChildren(
    table("Runs by status", [
      { name: "Status", cell: ([name]) => el("a", { href: `#/runs?status=${name}` }, status(name)) },
      { name: "Runs", number: true, cell: ([, number]) => count(number) },
      { name: "Share", cell: ([, number]) => bar(number) },
    ], Object.entries(runs)),
  );
}

function throughput(place, signal) {
  const drawn = chart("Records folded a second, since this page was opened", [], [{ label: "records/s", values: [] }], {
    signal,
    height: 170,
  });
  const numbers = el("div");
  const inTable = el("details", {}, el("summary", {}, "As a table"), numbers);
  place.append(el("h2", {}, "Records folded a second"), drawn.place, inTable);
  return (looks) => {
    const points = looks.slice(1).map((look, before) => ({
      at: look.at / 1000,
      rate: (look.folded - looks[before].folded) / Math.max(0.001, (look.at - looks[before].at) / 1000),
    }));
    if (points.length < 2) return; // there is no line through one point
    drawn.update(points.map((point) => point.at), [points.map((point) => point.rate)]);
    if (inTable.open) {
      numbers.replaceChildren(
        table("Records folded a second", [
          { name: "Time", cell: (point) => seconds(point.at) },
          { name: "Records/s", number: true, cell: (point) => count(point.rate) },
        ], points.slice(-20).reverse(), { hidden: true }),
      );
    }
  };
}

function latest(place, signal) {
  let told = [];
  let paused = false;
  const rows = el("div");
  const draw = () => {
    rows.replaceChildren(
      table("Last changes", [
        { name: "Seen", cell: (one) => time(one.at).slice(11) },
        { name: "Run", cell: ({ run }) => el("a", { href: `#/runs/${encodeURIComponent(run.id)}` }, run.id) },
        { name: "Status", cell: ({ run }) => status(run.status) },
        { name: "Model", cell: ({ run }) => run.model },
        { name: "Tokens", number: true, cell: ({ run }) => count(run.usage?.total_tokens) },
      ], told, { hidden: true, empty: "Nothing has changed since this page was opened." }),
    );
  };
  const pause = el("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) draw();
  } }, "Pause");
  place.append(el("div", { class: "head" }, el("h2", {}, "Last changes"), pause), rows);
  draw();
  let due = false;
  return follow({}, signal, ({ run }) => {
    told = [{ at: Date.now(), run }, ...told.filter((one) => one.run.id !== run.id)].slice(0, SHOWN);
    if (paused || due) return;
    due = true; // many changes at once are drawn once
    setTimeout(() => {
      due = false;
      if (!paused && !signal.aborted) draw();
    }, 250);
  });
}
