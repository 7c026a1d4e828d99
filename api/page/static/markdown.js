// Markdown to elements, made of text nodes only. What is no Markdown stays as it was written.

import { blocks } from "./blocks.js";
import { copyButton, h } from "./dom.js";
import { inline } from "./inline.js";

const DEEPEST = 8; // lists and quotes within each other

/** Shows a text that grows. Blocks that did not change keep their elements. */
export class MarkdownView {
  #sources = [];

  constructor(element) {
    this.element = element;
  }

  update(text) {
    const found = blocks(text);
    let same = 0;
    while (same < found.length && this.#sources[same] === found[same].source) same += 1;
    while (this.element.childNodes.length > same) this.element.lastChild.remove();
    this.element.append(...found.slice(same).map((block) => rendered(block, 0)));
    this.#sources = found.map((block) => block.source);
  }
}

/** An element that shows the whole text. */
export function markdown(text, depth = 0) {
  return h("div", { class: "markdown" }, ...parts(text, depth));
}

function parts(text, depth) {
  if (depth > DEEPEST) return [text];
  return blocks(text).map((block) => rendered(block, depth));
}

function rendered(block, depth) {
  switch (block.kind) {
    case "code":
      return codeBlock(block);
    case "heading":
      return h(`h${Math.min(block.level + 2, 6)}`, {}, ...inline(block.text)); // below the page's own
    case "rule":
      return h("hr");
    case "quote":
      return h("blockquote", {}, ...parts(block.text, depth + 1));
    case "list":
      return list(block, depth);
    case "table":
      return table(block);
    default:
      return h("p", {}, ...inline(block.text));
  }
}

function codeBlock({ text, language }) {
  const head = h("div", { class: "code-head" }, h("span", {}, language), copyButton(() => text, "Copy this code"));
  return h("div", { class: "code-block" }, head, h("pre", { tabindex: "0" }, h("code", {}, text)));
}

function list({ ordered, start, items }, depth) {
  const elements = items.map((item) => {
    const only = parts(item, depth + 1);
    // A single paragraph stands without the distance of one.
    return h("li", {}, ...(only[0]?.tagName === "P" ? [...only[0].childNodes, ...only.slice(1)] : only));
  });
  return h(ordered ? "ol" : "ul", { start: ordered && start !== 1 ? String(start) : null }, ...elements);
}

function table({ head, rows }) {
  const row = (tag, cells) => h("tr", {}, ...cells.map((cell) => h(tag, {}, ...inline(cell))));
  const body = h("tbody", {}, ...rows.map((cells) => row("td", cells)));
  return h("div", { class: "scroll", tabindex: "0" }, h("table", {}, h("thead", {}, row("th", head)), body));
}
