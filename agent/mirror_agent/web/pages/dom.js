// Elements without markup in strings: nothing that comes from the API is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, properties (`.name`), listeners (`onname`) and children (nodes, texts, lists, null). */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith(".")) element[name.slice(1)] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A part of a page that is drawn again only when what it shows has changed; the focus stays where it was. */
export function part(tag, attributes, draw) {
  const element = h(tag, attributes);
  let shown;
  return {
    element,
    show(...data) {
      const key = JSON.stringify(data);
      if (key === shown) return;
      shown = key;
      const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
      element.replaceChildren(...[draw(...data)].flat(Infinity).filter(Boolean));
      if (focused) document.getElementById(focused)?.focus();
    },
  };
}

/** Says something to people who do not see the page change. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** A table of rows that become cards on a small screen, where each cell says its column; the roles say what it is there. */
export function wide(words, rows, caption = null) {
  for (const row of rows) {
    row.setAttribute("role", "row");
    [...row.children].forEach((cell, index) => {
      cell.setAttribute("role", cell.tagName === "TH" ? "rowheader" : "cell");
      if (words[index] && cell.tagName !== "TH") cell.setAttribute("data-column", words[index]);
    });
  }
  const heads = words.map((word) => h("th", { scope: "col", role: "columnheader" }, word));
  return h("table", { class: "wide", role: "table" }, caption && h("caption", { class: "unseen" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)), h("tbody", { role: "rowgroup" }, rows));
}

/** Attributes of a region that scrolls sideways on a small screen, also by keyboard. */
export const scroll = (label) => ({ class: "scroll", tabindex: "0", role: "region", "aria-label": label });
