// How one message of the conversation looks.

import { copyButton, h } from "./dom.js";
import { MarkdownView } from "./markdown.js";

const NAMES = { user: "You", assistant: "Model", tool: "Result" };

function article(role, ...children) {
  return h("article", { class: `message ${role}`, "aria-label": NAMES[role] }, ...children);
}

/** What the user said. */
export function userMessage({ content, images = [] }) {
  const pictures = images.map((url, index) => h("img", { src: url, alt: `Attached image ${index + 1}` }));
  return article(
    "user",
    pictures.length > 0 ? h("div", { class: "pictures" }, ...pictures) : null,
    content ? h("p", { class: "plain" }, content) : null,
  );
}

/** What a tool gave. */
export function toolMessage({ name, content }) {
  return article("tool", h("p", { class: "role" }, `Result of ${name}`), h("pre", { tabindex: "0" }, content));
}

/** Something that went wrong, and a way on. */
export function failure(text, retry) {
  const button = h("button", { type: "button", class: "small", onclick: retry }, "Try again");
  return h("div", { class: "message failure", role: "alert" }, h("p", {}, text), button);
}

/** An answer that may still grow. ``update`` shows its present state. */
export class AnswerView {
  #reasoningText = h("div", { class: "markdown" });
  #summary = h("summary", {}, "Reasoning");
  #reasoning = h("details", { class: "reasoning", hidden: true }, this.#summary, this.#reasoningText);
  #content = h("div", { class: "markdown" });
  #calls = h("div", { class: "calls" });
  #results = h("div", { hidden: true });
  #foot = h("footer", { class: "foot", hidden: true });
  #touched = false; // the user has opened or closed the reasoning

  constructor() {
    this.element = article("assistant", this.#reasoning, this.#content, this.#calls, this.#results, this.#foot);
    this.element.classList.add("waiting");
    this.#summary.addEventListener("click", () => (this.#touched = true));
    this.reasoningView = new MarkdownView(this.#reasoningText);
    this.contentView = new MarkdownView(this.#content);
  }

  update({ reasoning, content, calls }) {
    this.element.classList.toggle("waiting", !reasoning && !content && calls.length === 0);
    this.#reasoning.hidden = !reasoning;
    if (!this.#touched) this.#reasoning.open = Boolean(reasoning) && !content && calls.length === 0;
    this.reasoningView.update(reasoning);
    this.contentView.update(content);
    this.#calls.replaceChildren(...calls.map(callElement));
  }

  /** It has ended: show figures and buttons, and where results are wanted, fields for them. */
  finish(answer, { retry, giveResults }) {
    this.update(answer);
    this.element.classList.remove("waiting");
    if (!this.#touched) this.#reasoning.open = Boolean(answer.reasoning) && !answer.content && !answer.calls.length;
    if (answer.calls.length > 0 && giveResults) this.#results.replaceChildren(resultForm(answer.calls, giveResults));
    this.#results.hidden = this.#results.childElementCount === 0;
    const again = h("button", { type: "button", class: "small again", onclick: retry }, "Try again");
    const copying = answer.content ? copyButton(() => answer.content, "Copy this answer") : null;
    this.#foot.replaceChildren(...[copying, again].filter(Boolean), h("span", { class: "numbers" }, figures(answer)));
    this.#foot.hidden = false;
  }
}

function callElement({ name, arguments: given }) {
  const head = h("p", { class: "role" }, "Calls ", h("code", {}, name));
  return h("div", { class: "call" }, head, h("pre", { tabindex: "0" }, pretty(given)));
}

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json; // not whole yet
  }
}

function resultForm(calls, giveResults) {
  const fields = calls.map(() => h("textarea", { rows: "2" }));
  const labels = calls.map(({ name }, index) => h("label", {}, `Result of ${name}`, fields[index]));
  const form = h("form", { class: "results" }, ...labels, h("button", { type: "submit", class: "strong" }, "Give results"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    form.remove();
    giveResults(fields.map((field) => field.value));
  });
  return form;
}

function figures({ usage, finish }) {
  const parts = [];
  if (finish === "stopped") parts.push("stopped");
  if (finish === "length") parts.push("ended by the limit");
  if (usage) {
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
    parts.push(`${usage.completion_tokens} tokens`);
    parts.push(`${usage.tokens_per_second.toFixed(1)} tokens/s`);
    parts.push(`first after ${Math.round(usage.time_to_first_token_ms)} ms`);
    parts.push(`prompt ${usage.prompt_tokens}, ${cached} cached`);
  }
  return parts.join(" · ");
}
