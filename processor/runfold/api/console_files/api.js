// Asking the API: with the tab's key, which is asked for where one is needed; and following its feed.

const KEY = "runfold.key";
const form = document.getElementById("key-form");
const dialog = document.getElementById("key");
let asking = null;

export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const forgetKey = () => sessionStorage.removeItem(KEY);

/** Asks a person for the key; all who wait for it share one question. */
function keyFromPerson(why) {
  asking ??= new Promise((resolve) => {
    document.getElementById("key-why").textContent = why;
    form.addEventListener(
      "submit",
      () => {
        sessionStorage.setItem(KEY, document.getElementById("key-value").value.trim());
        form.reset();
        asking = null;
        resolve();
      },
      { once: true },
    );
    dialog.showModal();
  });
  return asking;
}
dialog.addEventListener("cancel", (event) => event.preventDefault());

async function request(path, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...options.headers, ...(key === null ? {} : { Authorization: `Bearer ${key}` }) };
    const answer = await fetch(path, { ...options, headers });
    if (answer.ok) {
      showFreshness(answer.headers);
      return answer;
    }
    const { error } = await answer.json().catch(() => ({ error: { message: answer.statusText } }));
    if (answer.status !== 401) throw new Refusal(answer.status, error.message);
    await keyFromPerson(error.message);
  }
}

/** The path with its query; empty values are left out, lists are repeated. */
export function url(path, query = {}) {
  const told = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "" && one !== false) told.append(name, one);
    }
  }
  return `${path}?${told}`;
}

/** What a GET answers, as JSON. Throws Refusal. */
export async function ask(path, query = {}, signal = undefined) {
  return (await request(url(path, query), { signal })).json();
}

/** What a GET answers, saved as a file. */
export async function save(path, query, name) {
  const answer = await request(url(path, query));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Calls `told({name, run})` for each event of the feed until the signal aborts, coming back wherever it breaks off. */
export async function follow(query, signal, told) {
  let last = null;
  while (!signal.aborted) {
    try {
      const headers = last === null ? {} : { "Last-Event-ID": last };
      const answer = await request(url("/v1/runfold/feed", query), { signal, headers });
      for await (const event of events(answer.body)) {
        last = event.id ?? last;
        if (event.data) told({ name: event.event, run: JSON.parse(event.data) });
      }
    } catch (error) {
      if (signal.aborted || error.status === 403) return;
      if (error.status === 410 || error.status === 400) last = null; // from now on, then
    }
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      yield Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s)));
    }
  }
}

function showFreshness(headers) {
  const lag = headers.get("x-runfold-lag");
  const behind = headers.get("x-runfold-lag-seconds");
  const shown = document.getElementById("freshness");
  if (!headers.has("x-runfold-position")) return;
  shown.textContent = lag === null ? "lag unknown" : lag === "0" ? "up to date" : `${lag} records behind (${behind} s)`;
  shown.classList.toggle("behind", lag !== "0");
  document.getElementById("forget").hidden = !hasKey();
}
