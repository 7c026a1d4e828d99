// What every request of the chat says beside its messages; kept in the browser.

import { byId } from "./dom.js";

const STORE = "llama-box.settings";
const NAMES = ["system", "temperature", "top_p", "max_tokens", "seed", "reasoning", "tools"];
const NUMBERS = ["temperature", "top_p", "max_tokens", "seed"];
const EXAMPLE = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather in a city now",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];

export class Settings {
  #values = {};

  constructor() {
    try {
      this.#values = JSON.parse(localStorage.getItem(STORE)) ?? {};
    } catch {
      this.#values = {};
    }
    byId("open-settings").addEventListener("click", () => this.#open());
    byId("settings-cancel").addEventListener("click", () => byId("settings").close());
    byId("example-tool").addEventListener("click", () => {
      byId("set-tools").value = JSON.stringify(EXAMPLE, null, 2);
    });
    byId("settings-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save();
    });
  }

  get system() {
    return this.#values.system ?? "";
  }

  /** The fields of a request; what was left empty is the server's choice. */
  get fields() {
    const fields = {};
    for (const name of NUMBERS) if (this.#values[name]) fields[name] = Number(this.#values[name]);
    if (this.#values.reasoning) {
      fields.reasoning_effort = this.#values.reasoning;
      fields.chat_template_kwargs = { enable_thinking: false };
    }
    const tools = parsedTools(this.#values.tools ?? "");
    if (tools.length > 0) fields.tools = tools;
    return fields;
  }

  /** Show the server's own values where the user gives none. */
  useDefaults({ temperature, top_p: topP }) {
    byId("set-temperature").placeholder = String(Number(temperature.toFixed(3)));
    byId("set-top_p").placeholder = String(Number(topP.toFixed(3)));
  }

  #open() {
    for (const name of NAMES) byId(`set-${name}`).value = this.#values[name] ?? "";
    byId("settings-error").hidden = true;
    byId("settings").showModal();
  }

  #save() {
    const values = Object.fromEntries(NAMES.map((name) => [name, byId(`set-${name}`).value.trim()]));
    try {
      parsedTools(values.tools);
    } catch (error) {
      byId("settings-error").textContent = `Tools: ${error.message}`;
      byId("settings-error").hidden = false;
      byId("set-tools").focus();
      return;
    }
    this.#values = values;
    localStorage.setItem(STORE, JSON.stringify(values));
    byId("settings").close();
  }
}

/** Throws an Error for what is no list. The server checks the rest. */
function parsedTools(text) {
  if (text === "") return [];
  const tools = JSON.parse(text);
  if (!Array.isArray(tools)) throw new Error("a JSON list is wanted");
  return tools;
}
