// Markdown between lines: which of them form a block, and of what kind. Strings in, plain objects out.

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])\s*(?:\1\s*){2,}$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(?=\S)/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

/**
 * The blocks of a text, in order. Each has ``kind`` and ``source`` (its lines), and by kind:
 * code: text, language; heading: level, text; quote: text; list: ordered, start, items (texts);
 * table: head, rows (cells as texts); paragraph: text; rule: nothing.
 */
export function blocks(text) {
  const lines = text.split("\n");
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (lines[at].trim() === "") {
      at += 1;
      continue;
    }
    const [block, next] = READERS.map((reader) => reader(lines, at)).find((result) => result !== null);
    found.push({ ...block, source: lines.slice(at, next).join("\n") });
    at = next;
  }
  return found;
}

const READERS = [code, heading, rule, quote, list, table, paragraph];

/** An open fence runs to the end: the rest of it may be still to come. */
function code(lines, start) {
  const open = FENCE.exec(lines[start]);
  if (!open) return null;
  const [, fence, language] = open;
  const closes = (line) => line.trim().startsWith(fence) && line.trim().replaceAll(fence[0], "") === "";
  let end = start + 1;
  while (end < lines.length && !closes(lines[end])) end += 1;
  return [{ kind: "code", language, text: lines.slice(start + 1, end).join("\n") }, end + 1];
}

function heading(lines, start) {
  const found = HEADING.exec(lines[start]);
  return found && [{ kind: "heading", level: found[1].length, text: found[2] }, start + 1];
}

function rule(lines, start) {
  return RULE.test(lines[start]) ? [{ kind: "rule" }, start + 1] : null;
}

function quote(lines, start) {
  const end = endOf(lines, start, (line) => QUOTE.test(line));
  if (end === start) return null;
  return [{ kind: "quote", text: lines.slice(start, end).map((line) => line.replace(QUOTE, "")).join("\n") }, end];
}

function list(lines, start) {
  const first = ITEM.exec(lines[start]);
  if (!first) return null;
  const ordered = /\d/.test(first[2]);
  const items = [];
  let inner = first[0].length; // column where the text of an item begins
  let at = start;
  while (at < lines.length) {
    const item = ITEM.exec(lines[at]);
    if (item && item[1].length <= first[1].length) {
      if (/\d/.test(item[2]) !== ordered) break;
      items.push([lines[at].slice(item[0].length)]);
      inner = item[0].length;
    } else if (lines[at].trim() === "") {
      const next = lines[at + 1] ?? "";
      if (!/^\s{2,}\S/.test(next) && !ITEM.test(next)) break;
      items.at(-1).push("");
    } else if (item || /^\s{2,}/.test(lines[at])) {
      items.at(-1).push(lines[at].replace(new RegExp(`^\\s{0,${inner}}`), ""));
    } else if (lines[at - 1].trim() !== "" && !begins(lines, at)) {
      items.at(-1).push(lines[at]);
    } else {
      break;
    }
    at += 1;
  }
  const texts = items.map((item) => item.join("\n").trimEnd());
  return [{ kind: "list", ordered, start: ordered ? parseInt(first[2], 10) : 1, items: texts }, at];
}

function table(lines, start) {
  if (!lines[start].includes("|") || !DIVIDER.test(lines[start + 1] ?? "")) return null;
  const head = cells(lines[start]);
  if (cells(lines[start + 1]).length !== head.length) return null;
  const end = endOf(lines, start + 2, (line) => line.includes("|"));
  const rows = lines.slice(start + 2, end).map((line) => cells(line).slice(0, head.length));
  return [{ kind: "table", head, rows }, end];
}

function cells(line) {
  const text = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return text.split("|").map((cell) => cell.trim());
}

function paragraph(lines, start) {
  let end = start + 1;
  while (end < lines.length && lines[end].trim() !== "" && !begins(lines, end)) end += 1;
  return [{ kind: "paragraph", text: lines.slice(start, end).join("\n") }, end];
}

/** Whether a line begins something that ends a paragraph. */
function begins(lines, at) {
  return [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(lines[at])) || table(lines, at) !== null;
}

function endOf(lines, start, belongs) {
  let end = start;
  while (end < lines.length && belongs(lines[end])) end += 1;
  return end;
}
