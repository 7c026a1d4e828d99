// Images that go with the next message: chosen, pasted or dropped.

import { byId, h, notice } from "./dom.js";

const MOST_BYTES = 40 * 1024 * 1024; // the server takes bodies of 64 MiB, and base64 needs a third more

export class Attachments {
  #images = []; // {name, url}

  /** Watch the form; nothing is taken before ``enable``. */
  constructor() {
    this.enabled = false;
    byId("attach").addEventListener("click", () => byId("files").click());
    byId("files").addEventListener("change", async () => {
      await this.add(byId("files").files);
      byId("files").value = "";
    });
    byId("prompt").addEventListener("paste", (event) => this.#take(event, event.clipboardData));
    byId("view-chat").addEventListener("dragover", (event) => event.preventDefault());
    byId("view-chat").addEventListener("drop", (event) => this.#take(event, event.dataTransfer));
  }

  /** The model sees. */
  enable() {
    this.enabled = true;
    byId("attach").hidden = false;
  }

  /** Attach those of the files that are images. */
  async add(files) {
    for (const file of [...files].filter(({ type }) => type.startsWith("image/"))) {
      const url = await dataUrl(file);
      const bytes = this.#images.reduce((sum, image) => sum + image.url.length, url.length);
      if (bytes > MOST_BYTES) {
        notice(`${file.name} is too large: the images of a message may have 40 MB together.`);
      } else {
        this.#images.push({ name: file.name, url });
      }
    }
    this.#show();
  }

  /** The data URLs; none are attached any more. */
  take() {
    const urls = this.#images.map(({ url }) => url);
    this.#images = [];
    this.#show();
    return urls;
  }

  #take(event, transfer) {
    const files = [...(transfer?.files ?? [])];
    if (files.length === 0) return; // text goes where it belongs
    event.preventDefault();
    if (this.enabled) this.add(files);
    else notice("This model takes no images.");
  }

  #show() {
    const list = byId("attachments");
    list.hidden = this.#images.length === 0;
    list.replaceChildren(...this.#images.map((image) => this.#item(image)));
  }

  #item(image) {
    const label = `Remove ${image.name}`;
    const remove = h("button", { type: "button", class: "small", "aria-label": label, title: label }, "×");
    remove.addEventListener("click", () => {
      this.#images.splice(this.#images.indexOf(image), 1);
      this.#show();
      byId("prompt").focus();
    });
    return h("li", {}, h("img", { src: image.url, alt: image.name }), remove);
  }
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
