// Making images: a form, and each image as it comes into being.

import { stream } from "./api.js";
import { announce, byId, h } from "./dom.js";

const SEEDS = 2 ** 32;

export class Images {
  #running = null; // AbortController
  #model = null;

  constructor() {
    byId("image-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#running === null && this.#model !== null) this.#make();
    });
    byId("image-stop").addEventListener("click", () => this.#running?.abort());
    byId("view-images").addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#running?.abort();
    });
  }

  /** The server is ready; ``model``: what it says of its image model. */
  enable(model) {
    this.#model = model;
    const { meta } = model;
    setNumber("image-width", meta.default_width, meta.max_width);
    setNumber("image-height", meta.default_height, meta.max_height);
    setNumber("image-steps", meta.sampling_steps);
    setNumber("image-cfg", Number(meta.cfg_scale.toFixed(3)));
    byId("image-count").max = String(meta.max_batch_count);
  }

  /** The server makes no images; ``reason`` says why. */
  disable(reason) {
    byId("images-off").textContent = reason;
    byId("images-off").hidden = false;
    byId("image-form").hidden = true;
  }

  async #make() {
    const body = this.#body();
    const running = new AbortController();
    this.#setRunning(running);
    const pictures = Array.from({ length: body.n }, (_, index) => new Picture(body, index));
    byId("gallery").prepend(...pictures.map(({ element }) => element));
    announce("The image is being made.");
    try {
      for await (const { data } of stream("v1/images/generations", body, running.signal)) {
        for (const part of data) pictures[part.index].update(part);
      }
      announce("The image is complete.");
    } catch (error) {
      const text = running.signal.aborted ? "Stopped." : error.message;
      for (const picture of pictures) picture.end(text);
      announce(text);
    }
    this.#setRunning(null);
  }

  #body() {
    const seed = byId("image-seed").value;
    const preview = byId("image-preview").value;
    const body = {
      model: this.#model.id,
      prompt: byId("image-prompt").value,
      size: `${byId("image-width").value}x${byId("image-height").value}`,
      n: Number(byId("image-count").value),
      sample_steps: Number(byId("image-steps").value),
      cfg_scale: Number(byId("image-cfg").value),
      // Chosen here, so that it can be shown and used again.
      seed: seed === "" ? Math.floor(Math.random() * SEEDS) : Number(seed),
    };
    const negative = byId("image-negative").value.trim();
    if (negative) body.negative_prompt = negative;
    if (preview) body.stream_options = { [preview]: true };
    return body;
  }

  #setRunning(running) {
    const stopHadFocus = document.activeElement === byId("image-stop");
    this.#running = running;
    byId("image-go").hidden = running !== null;
    byId("image-stop").hidden = running === null;
    if (running === null && stopHadFocus) byId("image-go").focus();
  }
}

/** One image of a request: first its progress and previews, then itself. */
class Picture {
  #bar = h("progress", { max: "100", value: "0", "aria-label": "Progress" });
  #state = h("span", {}, "Waiting");
  #frame = h("div", { class: "frame" });
  #ended = false;

  constructor(body, index) {
    this.prompt = body.prompt;
    this.name = `image-${body.seed + index}.png`;
    this.#frame.style.aspectRatio = body.size.replace("x", " / ");
    const about = `${body.size}, ${body.sample_steps} steps, seed ${body.seed + index}`;
    this.caption = h("figcaption", {}, h("p", { class: "prompt" }, body.prompt), h("p", { class: "note" }, about));
    this.element = h("figure", { class: "card" }, this.#frame, this.#bar, this.#state, this.caption);
  }

  /** What an event says of this image. */
  update({ progress, b64_json: base64, finish_reason: finish }) {
    this.#bar.value = progress;
    this.#state.textContent = `${Math.round(progress)} %`;
    if (base64) this.#show(base64, finish ? this.prompt : `Preview of: ${this.prompt}`);
    if (finish) this.#finish();
  }

  /** The request has ended; images that were not finished by then say why. */
  end(text) {
    if (this.#ended) return;
    this.#bar.remove();
    this.#state.textContent = text;
    this.#state.className = "error";
  }

  #show(base64, alt) {
    const old = this.#frame.firstChild;
    const url = URL.createObjectURL(new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], { type: "image/png" }));
    const image = h("img", { src: url, alt });
    image.addEventListener("load", () => old && URL.revokeObjectURL(old.src), { once: true });
    this.#frame.replaceChildren(image);
  }

  #finish() {
    this.#ended = true;
    const url = this.#frame.firstChild.src;
    const link = h("a", { href: url, download: this.name, class: "button" }, "Save");
    this.#bar.remove();
    this.#state.replaceWith(h("div", { class: "buttons" }, h("span", { class: "gap" }), link));
  }
}

function setNumber(id, value, most) {
  byId(id).value = String(value);
  if (most !== undefined) byId(id).max = String(most);
}
