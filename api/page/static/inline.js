// Markdown inside a line: code, bold, italic, struck, links.

import { h } from "./dom.js";

// Every repetition is bounded, so that no text makes this slow.
const MARK = new RegExp(
  [
    String.raw`(?<escape>\\[\\${"`"}*_~[\](){}#+\-.!|<>])`,
    String.raw`(?<ticks>${"`"}{1,3})(?<code>[^\n]{0,999}?[^${"`"}\n])\k<ticks>(?!${"`"})`,
    String.raw`\*\*(?<bold>[^\s*](?:[^\n]{0,999}?[^\s])??)\*\*(?!\*)`,
    String.raw`(?<![\w*])\*(?<italic>[^\s*](?:[^\n*]{0,999}?[^\s*])??)\*(?!\*)`,
    String.raw`(?<![\w_])__(?<bold2>[^\s_](?:[^\n]{0,999}?[^\s])??)__(?![\w_])`,
    String.raw`(?<![\w_])_(?<italic2>[^\s_](?:[^\n_]{0,999}?[^\s_])??)_(?![\w_])`,
    String.raw`~~(?<struck>[^\s~](?:[^\n~]{0,999}?[^\s~])??)~~`,
    String.raw`!?\[(?<text>[^\]\n]{1,500})\]\((?<url>https?:\/\/[^\s()<>]{1,1000}(?:\([^\s()<>]{0,200}\)[^\s()<>]{0,200})?)(?:\s"[^"\n]{0,200}")?\)`,
    String.raw`(?<bare>https?:\/\/[^\s<>"'${"`"}\])]{1,1000}[^\s<>"'${"`"}\]).,;:!?*_~])`,
  ].join("|"),
  "gu",
);
const DEEPEST = 6;

/** Nodes for the text of one block; a line break in it is kept. */
export function inline(source, depth = 0) {
  const nodes = [];
  let end = 0;
  for (const match of source.matchAll(MARK)) {
    if (match.index > end) nodes.push(...lines(source.slice(end, match.index)));
    nodes.push(marked(match.groups, depth));
    end = match.index + match[0].length;
  }
  if (end < source.length) nodes.push(...lines(source.slice(end)));
  return nodes;
}

function lines(text) {
  return text.split("\n").flatMap((line, index) => (index === 0 ? [line] : [h("br"), line]));
}

function marked(found, depth) {
  if (found.escape) return found.escape.slice(1);
  if (found.code) return h("code", {}, found.code);
  if (found.bare) return link(found.bare, [found.bare]);
  const within = (text) => (depth < DEEPEST ? inline(text, depth + 1) : [text]);
  if (found.url) return link(found.url, within(found.text));
  if (found.struck) return h("s", {}, ...within(found.struck));
  const bold = found.bold ?? found.bold2;
  return bold ? h("strong", {}, ...within(bold)) : h("em", {}, ...within(found.italic ?? found.italic2));
}

/** Only http and https come here. */
function link(url, content) {
  return h("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow" }, ...content);
}
