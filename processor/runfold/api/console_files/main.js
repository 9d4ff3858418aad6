// Which page is shown: the part of the address behind #. A page is a function that fills an element and stops by a signal.

import { forgetKey } from "./api.js";
import { el } from "./dom.js";
import { letters } from "./letters.js";
import { overview } from "./overview.js";
import { partitions } from "./partitions.js";
import { run } from "./run.js";
import { runs } from "./runs.js";
import { usage } from "./usage.js";

const PAGES = [
  [/^\/?$/, overview, "Overview"],
  [/^\/runs$/, runs, "Runs"],
  [/^\/runs\/([^/]+)$/, run, "Run"],
  [/^\/usage$/, usage, "Usage and cost"],
  [/^\/partitions$/, partitions, "Workers and partitions"],
  [/^\/letters$/, letters, "Dead letters"],
];
const main = document.getElementById("main");
let leaving = new AbortController();
let shownPath = null;

async function show() {
  if (location.hash && !location.hash.startsWith("#/")) return; // the link that skips to the content
  leaving.abort();
  leaving = new AbortController();
  const [path, query = ""] = location.hash.slice(1).split("?");
  const [page, title, parts] = chosen(path);
  document.title = `${title} · runfold`;
  mark(path);
  const heading = el("h1", {}, title);
  const body = el("div", { class: "page" });
  main.replaceChildren(heading, body);
  if (shownPath !== null && shownPath !== path) main.focus({ preventScroll: true });
  shownPath = path;
  const signal = leaving.signal;
  try {
    await page(body, { signal, query: new URLSearchParams(query), parts, heading });
  } catch (error) {
    if (!signal.aborted) body.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
  }
}

function chosen(path) {
  for (const [pattern, page, title] of PAGES) {
    const found = pattern.exec(path);
    if (found) return [page, title, found.slice(1).map(decodeURIComponent)];
  }
  return [(body) => body.append(el("p", {}, "There is no such page.")), "Not found", []];
}

function mark(path) {
  const here = `#/${path.split("/")[1] ?? ""}`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

document.getElementById("forget").addEventListener("click", () => {
  forgetKey();
  show();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", show);
show();
