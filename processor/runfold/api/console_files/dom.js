// Elements, made without markup: what the API tells is only ever text.

/** An element with attributes, listeners (`onclick`) and children: nodes or text; null and false are left out. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** A table with a caption. `columns` are {name, cell(row), number}; a cell is a node or text. */
export function table(caption, columns, rows, { hidden = false, empty = "Nothing here." } = {}) {
  const head = columns.map((column) => el("th", { scope: "col", class: column.number && "number" }, column.name));
  const body = rows.map((row) =>
    el("tr", {}, columns.map((column) => el("td", { class: column.number && "number" }, column.cell(row) ?? "–"))),
  );
  const nothing = el("tr", {}, el("td", { colspan: columns.length, class: "hint" }, empty));
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", { class: hidden && "unseen" }, caption),
      el("thead", {}, el("tr", {}, head)),
      el("tbody", {}, body.length ? body : nothing),
    ),
  );
}

/** Names and values. */
export function facts(pairs) {
  return el(
    "dl",
    { class: "facts" },
    pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false).map(([name, value]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, value)),
    ),
  );
}

export function status(name) {
  return el("span", { class: `status status-${name}` }, name.replaceAll("_", " "));
}

/** A labelled choice; `options` are [value, text]. */
export function choice(label, name, options, value) {
  const select = el(
    "select",
    { name, id: `f-${name}` },
    options.map(([key, text]) => el("option", { value: key, selected: key === value }, text)),
  );
  return el("div", { class: "field" }, el("label", { for: `f-${name}` }, label), select);
}

export function input(label, name, value, attributes = {}) {
  return el(
    "div",
    { class: "field" },
    el("label", { for: `f-${name}` }, label),
    el("input", { name, id: `f-${name}`, value: value ?? "", autocomplete: "off", ...attributes }),
  );
}

export function check(label, name, on) {
  return el(
    "div",
    { class: "field check" },
    el("input", { type: "checkbox", name, id: `f-${name}`, value: "true", checked: on }),
    el("label", { for: `f-${name}` }, label),
  );
}
