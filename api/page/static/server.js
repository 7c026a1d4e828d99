// The server's figures: speeds, cache, slots, models, features.

import { getJson, getText } from "./api.js";
import { byId, h } from "./dom.js";
import { parse } from "./prometheus.js";

const EVERY = 2000; // milliseconds
const LABELS = {
  chat: "Chat and completions",
  images: "Images",
  embeddings: "Embeddings",
  rerank: "Rerank",
  infill: "Infill",
  slots: "Slots",
  metrics: "Metrics",
};
const P = "llamabox:";

export class Server {
  #features = null;
  #before = null; // {time, values} of the last look
  #timer = null;

  constructor() {
    document.addEventListener("visibilitychange", () => this.#arrange());
  }

  /** The server is ready: what it has, and which models. */
  enable({ version, features }, models) {
    this.#features = features;
    byId("version").textContent = `llama-box ${version}`;
    byId("models").replaceChildren(...models.map(modelCard));
    byId("features").replaceChildren(...Object.entries(features).map(([name, reason]) => featureItem(name, reason)));
    this.#arrange();
  }

  /** The view has been opened or left. */
  shown() {
    this.#arrange();
  }

  /** Look regularly while somebody can see it. */
  #arrange() {
    clearTimeout(this.#timer);
    if (this.#features !== null && !byId("view-server").hidden && !document.hidden) this.#look();
  }

  async #look() {
    try {
      await this.#showFigures();
      await this.#showSlots();
    } catch (error) {
      byId("figures").replaceChildren(h("p", { class: "error" }, error.message));
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#arrange(), EVERY);
  }

  async #showFigures() {
    if (this.#features.metrics !== null) {
      byId("figures").replaceChildren(h("p", { class: "note" }, this.#features.metrics));
      return;
    }
    const values = parse(await getText("metrics"));
    const now = { time: performance.now(), values };
    const tiles = [
      ...(this.#features.chat === null ? textFigures(values, this.#before ?? now, now) : []),
      ...(this.#features.images === null ? imageFigures(values) : []),
      requests(values),
    ];
    this.#before = now;
    byId("figures").replaceChildren(h("dl", { class: "tiles" }, ...tiles));
  }

  async #showSlots() {
    if (this.#features.slots !== null) {
      byId("slots").replaceChildren(h("p", { class: "note" }, this.#features.slots));
      return;
    }
    byId("slots").replaceChildren(slotTable(await getJson("slots")));
  }
}

function textFigures(values, before, now) {
  const of = reader(values);
  const seconds = (now.time - before.time) / 1000;
  const growth = (name) => (seconds > 0 ? Math.max(of(name) - (before.values.get(P + name) ?? 0), 0) / seconds : 0);
  const computed = of("prompt_tokens_total");
  const cached = of("prompt_cached_tokens_total");
  const firsts = of("time_to_first_token_seconds_count");
  const first = firsts > 0 ? (of("time_to_first_token_seconds_sum") / firsts) * 1000 : 0;
  return [
    tile("Generated", `${count(growth("tokens_predicted_total"))} tokens/s`, `${count(of("predicted_tokens_seconds"))} tokens/s for one request, ${count(of("tokens_predicted_total"))} in all`),
    tile("Prompts", `${count(growth("prompt_tokens_total"))} tokens/s`, `${count(of("prompt_tokens_seconds"))} tokens/s for one request, ${count(computed)} in all`),
    tile("Cache hits", share(cached, cached + computed), `${count(cached)} of ${count(cached + computed)} prompt tokens`),
    tile("KV cache", share(of("kv_cache_usage_ratio"), 1), `${count(of("kv_cache_tokens"))} tokens in use, ${count(of("kv_cache_reusable_tokens"))} kept`),
    tile("First token", firsts > 0 ? `${count(first)} ms` : "–", `mean of ${count(firsts)} ${firsts === 1 ? "answer" : "answers"}`),
  ];
}

function imageFigures(values) {
  const of = reader(values);
  return [tile("Images", `${of("image_steps_seconds").toFixed(2)} steps/s`, `${count(of("image_generate_steps_total"))} steps in all`)];
}

function requests(values) {
  const of = reader(values);
  return tile("Requests", count(of("requests_processing")), `running, ${count(of("requests_deferred"))} waiting`);
}

/** Reads a metric by its name without the prefix. */
function reader(values) {
  return (name) => values.get(P + name) ?? 0;
}

function tile(name, value, more) {
  return h("div", { class: "card tile" }, h("dt", {}, name), h("dd", { class: "value" }, value), h("dd", { class: "note" }, more));
}

function count(value) {
  return value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 1 : 0 });
}

function share(part, whole) {
  return whole > 0 ? `${Math.round((100 * part) / whole)} %` : "–";
}

function slotTable(slots) {
  const head = ["Slot", "State", "Prompt", "of it cached", "Generated", "Context"];
  const rows = slots.map((slot) => {
    const cells = "image" in slot ? imageCells(slot) : textCells(slot);
    const attributes = { class: slot.is_processing ? "busy" : null };
    return h("tr", attributes, h("th", { scope: "row" }, String(slot.id)), ...cells);
  });
  const columns = head.map((name) => h("th", { scope: "col" }, name));
  const table = h("table", {}, h("thead", {}, h("tr", {}, ...columns)), h("tbody", {}, ...rows));
  return h("div", { class: "scroll card", tabindex: "0", role: "region", "aria-label": "Slots" }, table);
}

function textCells(slot) {
  const state = slot.is_prefilling ? "reads" : slot.is_processing ? "writes" : "idle";
  const cells = [state, slot.n_prompt_tokens, slot.n_prompt_tokens_cache, slot.next_token.n_decoded];
  const used = h("meter", { max: String(slot.n_ctx), value: String(slot.n_past), "aria-label": "Context in use" });
  const context = h("td", {}, used, ` ${slot.n_past} of ${slot.n_ctx}`);
  return [...cells.map((cell) => h("td", {}, String(cell))), context];
}

/** The slot that images are made in. */
function imageCells({ image }) {
  const text = image ? `makes image ${image.index + 1} of ${image.n}, ${image.width} × ${image.height}: ${image.progress} %` : "idle";
  return [h("td", { colspan: "5" }, text)];
}

function modelCard({ id, meta }) {
  const facts = "n_vocab" in meta ? textFacts(meta) : imageFacts(meta);
  const rows = facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
  return h("div", { class: "card" }, h("h3", {}, id), h("dl", { class: "facts" }, ...rows));
}

function textFacts(meta) {
  const abilities = ["vision", "audio", "tool_calls", "reasoning"].filter((name) => meta[`support_${name}`]);
  return [
    ["Parameters", `${(meta.n_params / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} million`],
    ["Size", `${(meta.size / 2 ** 20).toLocaleString("en", { maximumFractionDigits: 1 })} MiB`],
    ["Context", `${meta.n_ctx} tokens, ${meta.n_slot} slots of ${meta.n_slot_ctx}`],
    ["Trained for", `${meta.n_ctx_train} tokens`],
    ["Abilities", abilities.map((name) => name.replace("_", " ")).join(", ") || "text"],
  ];
}

function imageFacts(meta) {
  return [
    ["Kind", meta.version],
    ["Largest", `${meta.max_width} × ${meta.max_height}, ${meta.max_batch_count} at a time`],
    ["Sampler", `${meta.sample_method}, ${meta.sampling_steps} steps`],
  ];
}

function featureItem(name, reason) {
  const on = reason === null;
  const state = h("span", { class: on ? "state on" : "state" }, on ? "on" : "off");
  return h("li", {}, state, h("span", {}, LABELS[name] ?? name), on ? null : h("span", { class: "note" }, reason));
}
