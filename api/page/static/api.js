// Requests to the server that gave the page. Paths are relative, so that a proxy may serve it all below a prefix.

import { EventReader } from "./sse.js";

const KEY = "llama-box.key";
let onKeyNeeded = () => {};

/** An answer that is no success; ``status`` 0: the server could not be reached. */
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Call ``listener`` whenever the server refuses the key. */
export function whenKeyIsNeeded(listener) {
  onKeyNeeded = listener;
}

/** Send this key from now on; ``keep``: after the browser is closed too. */
export function useKey(key, keep) {
  forgetKey();
  (keep ? localStorage : sessionStorage).setItem(KEY, key);
}

function forgetKey() {
  localStorage.removeItem(KEY);
  sessionStorage.removeItem(KEY);
}

/** A response with a status of success; with ``body``: to a POST of it as JSON. Throws ServerError. */
async function ask(path, { body, signal } = {}) {
  const headers = {};
  const key = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
  if (key !== null) headers["Authorization"] = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const options = { method: body === undefined ? "GET" : "POST", headers, signal, cache: "no-store" };
  if (body !== undefined) options.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, "The server cannot be reached.");
  }
  if (response.ok) return response;
  if (response.status === 401) onKeyNeeded();
  throw new ServerError(response.status, await messageOf(response));
}

async function messageOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server answered ${response.status}.`;
  }
}

export const getJson = async (path) => (await ask(path)).json();
export const getText = async (path) => (await ask(path)).text();

/** The events of a streamed answer, decoded, until [DONE]. Throws ServerError, also for an error event. */
export async function* stream(path, body, signal) {
  const response = await ask(path, { body: { ...body, stream: true }, signal });
  const texts = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const reader = new EventReader();
  for (;;) {
    const { done, value } = await readOrFail(texts);
    if (done) throw new ServerError(0, "The connection ended before the answer did.");
    for (const data of reader.feed(value)) {
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ServerError(event.error.code, event.error.message);
      yield event;
    }
  }
}

async function readOrFail(texts) {
  try {
    return await texts.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, "The connection was lost.");
  }
}
