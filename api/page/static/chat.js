// The chat: what the user does, what is sent, what comes back.

import { stream } from "./api.js";
import { addChunk, emptyAnswer } from "./answer.js";
import { Attachments } from "./attachments.js";
import { Conversation } from "./conversation.js";
import { announce, byId, notice } from "./dom.js";
import { AnswerView, failure, toolMessage, userMessage } from "./message.js";
import { Settings } from "./settings.js";

const NEAR_THE_END = 80; // pixels

export class Chat {
  #conversation = Conversation.restored();
  #settings = new Settings();
  #attachments = new Attachments();
  #running = null; // AbortController
  #model = null;

  constructor() {
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    byId("prompt").addEventListener("keydown", (event) => this.#key(event));
    byId("prompt").addEventListener("input", fit);
    byId("stop").addEventListener("click", () => this.#running?.abort());
    byId("new-chat").addEventListener("click", () => this.#restart());
    byId("view-chat").addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#running?.abort();
    });
    this.#showAll();
  }

  /** The server is ready; ``model``: what it says of its text model. */
  enable(model) {
    this.#model = model;
    this.#settings.useDefaults(model.meta);
    if (model.meta.support_vision) this.#attachments.enable();
    if (!matchMedia("(pointer: coarse)").matches && !byId("view-chat").hidden) byId("prompt").focus();
  }

  /** The server has no chat; ``reason`` says why. */
  disable(reason) {
    byId("empty").textContent = reason;
    for (const field of byId("composer").elements) field.disabled = true;
  }

  #key(event) {
    // Where there is no real keyboard, a line break is what Enter is for.
    const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing && matchMedia("(pointer: fine)").matches;
    if (!sends) return;
    event.preventDefault();
    this.#send();
  }

  #send() {
    const text = byId("prompt").value.trim();
    if (this.#running || !this.#model) return;
    const images = this.#attachments.take();
    if (text === "" && images.length === 0) return;
    this.#conversation.say(text, images);
    byId("prompt").value = "";
    fit();
    this.#showAll();
    this.#answer();
  }

  #restart() {
    this.#running?.abort();
    this.#conversation = new Conversation();
    this.#conversation.save();
    this.#showAll();
    byId("prompt").focus();
  }

  #retry() {
    if (this.#running || !this.#model) return;
    this.#conversation.dropAnswer();
    this.#showAll();
    this.#answer();
  }

  #giveResults(contents) {
    if (this.#running || !this.#model) return;
    this.#conversation.giveResults(contents);
    this.#showAll();
    this.#answer();
  }

  async #answer() {
    const conversation = this.#conversation;
    const answer = emptyAnswer();
    const view = new AnswerView();
    const running = new AbortController();
    this.#setRunning(running);
    notice("");
    for (const old of byId("log").querySelectorAll(".foot")) old.classList.add("old");
    byId("log").append(view.element);
    toTheEnd(true);
    announce("The model answers.");
    let ended = false;
    const draw = oncePerFrame(() => {
      if (ended) return;
      const follow = isAtTheEnd();
      view.update(answer);
      toTheEnd(follow);
    });
    let failed = null;
    try {
      for await (const chunk of stream("v1/chat/completions", this.#body(conversation), running.signal)) {
        addChunk(answer, chunk);
        draw();
      }
    } catch (error) {
      if (running.signal.aborted) answer.finish = "stopped";
      else failed = error;
    }
    ended = true;
    this.#setRunning(null);
    if (conversation !== this.#conversation) return; // a new one was begun meanwhile
    if (failed) this.#fail(view, answer, failed);
    else this.#keep(view, answer);
  }

  #body(conversation) {
    return {
      model: this.#model.id,
      messages: conversation.asMessages(this.#settings.system),
      stream_options: { include_usage: true },
      ...this.#settings.fields,
    };
  }

  #keep(view, answer) {
    this.#conversation.messages.push(answer);
    this.#conversation.save();
    const follow = isAtTheEnd();
    view.finish(answer, this.#actions);
    toTheEnd(follow);
    announce(answer.finish === "stopped" ? "Stopped." : "The answer is complete.");
  }

  /** What came before the failure stays visible, but is no part of the conversation. */
  #fail(view, answer, error) {
    this.#conversation.save();
    view.update(answer);
    view.element.classList.remove("waiting");
    if (!answer.content && !answer.reasoning) view.element.remove();
    byId("log").append(failure(error.message, () => this.#retry()));
    toTheEnd(true);
  }

  get #actions() {
    return { retry: () => this.#retry(), giveResults: (contents) => this.#giveResults(contents) };
  }

  #setRunning(running) {
    const stopHadFocus = document.activeElement === byId("stop");
    this.#running = running;
    byId("send").hidden = running !== null;
    byId("stop").hidden = running === null;
    byId("log").setAttribute("aria-busy", String(running !== null));
    if (running === null && stopHadFocus) byId("prompt").focus();
  }

  #showAll() {
    const { messages } = this.#conversation;
    byId("empty").hidden = messages.length > 0;
    const last = messages.at(-1);
    byId("log").replaceChildren(byId("empty"), ...messages.map((message) => this.#element(message, message === last)));
    toTheEnd(true);
  }

  #element(message, isLast) {
    if (message.role === "user") return userMessage(message);
    if (message.role === "tool") return toolMessage(message);
    const view = new AnswerView();
    const { retry, giveResults } = this.#actions;
    view.finish(message, { retry, giveResults: isLast ? giveResults : null });
    if (!isLast) view.element.querySelector(".foot").classList.add("old");
    return view.element;
  }
}

function isAtTheEnd() {
  const log = byId("log");
  return log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_THE_END;
}

function toTheEnd(follow) {
  if (follow) byId("log").scrollTop = byId("log").scrollHeight;
}

/** The field is as high as its text, up to what the style allows. */
function fit() {
  const field = byId("prompt");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

function oncePerFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}
