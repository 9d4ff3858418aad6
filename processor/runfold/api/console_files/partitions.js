// Who folds what, and how far: workers with their partitions, partitions with their positions and outcomes.

import { ask } from "./api.js";
import { el, table } from "./dom.js";
import { count, span } from "./format.js";

const EVERY = 2_000;

export async function partitions(body, { signal }) {
  while (!signal.aborted) {
    if (!document.hidden) {
      const found = await ask("/v1/runfold/status", {}, signal);
      body.replaceChildren(workers(found), each(found), outcomes(found));
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY));
  }
}

function workers({ partitions: all, at }) {
  const held = Map.groupBy ? Map.groupBy(all, (one) => one.owner) : grouped(all);
  return el("section", { class: "card" }, table("Workers", [
    { name: "Worker", cell: ([owner]) => owner ?? el("strong", { class: "attention" }, "nobody") },
    { name: "Partitions", cell: ([, mine]) => mine.map((one) => one.partition).join(", ") },
    { name: "Lag", number: true, cell: ([, mine]) => lagOf(mine) },
    { name: "Last commit", number: true, cell: ([, mine]) => ago(Math.max(...mine.map((one) => one.committed_at ?? 0)), at) },
  ], [...held], { empty: "No partition has been folded yet: start runfold serve." }));
}

function grouped(all) {
  const found = new Map();
  for (const one of all) found.set(one.owner, [...(found.get(one.owner) ?? []), one]);
  return found;
}

const lagOf = (mine) =>
  mine.some((one) => one.lag === null) ? "unknown" : count(mine.reduce((total, one) => total + one.lag, 0));

const ago = (committed, at) => (committed ? `${span(Math.max(0, at - committed))} ago` : null);

function each({ partitions: all, at }) {
  return el("section", { class: "card" }, table("Partitions", [
    { name: "Partition", cell: (one) => String(one.partition) },
    { name: "Position", number: true, cell: (one) => count(one.position) },
    { name: "Log begins", number: true, cell: (one) => count(one.begin) },
    { name: "Log ends", number: true, cell: (one) => count(one.end) },
    { name: "Lag", number: true, cell: (one) => (one.lag === null ? "unknown" : count(one.lag)) },
    { name: "Worker", cell: (one) => one.owner ?? "nobody" },
    { name: "Last commit", number: true, cell: (one) => ago(one.committed_at, at) },
  ], all));
}

function outcomes({ partitions: all }) {
  const names = [...new Set(all.flatMap((one) => Object.keys(one.outcomes)))].sort();
  return el("section", { class: "card" }, table("Records by outcome, since the store began", [
    { name: "Partition", cell: (one) => String(one.partition) },
    ...names.map((name) => ({ name, number: true, cell: (one) => count(one.outcomes[name] ?? 0) })),
  ], all));
}
