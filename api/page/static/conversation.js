// A conversation, as it is kept and as the server gets it.

const STORE = "llama-box.chat";

/**
 * Messages in order, each with ``role``: user (content, images as data URLs), assistant (reasoning, content, calls of
 * id, name and arguments, usage, finish), tool (id, name, content).
 */
export class Conversation {
  messages = [];

  /** What this tab held before it was loaded again. */
  static restored() {
    const conversation = new Conversation();
    try {
      conversation.messages = JSON.parse(sessionStorage.getItem(STORE)) ?? [];
    } catch {
      conversation.messages = [];
    }
    return conversation;
  }

  /** Keep it for as long as the tab is open; large images may be too much for that. */
  save() {
    try {
      sessionStorage.setItem(STORE, JSON.stringify(this.messages));
    } catch {
      sessionStorage.removeItem(STORE);
    }
  }

  /** The calls of the last answer that have no results yet. */
  get openCalls() {
    const last = this.messages.at(-1);
    return last?.role === "assistant" ? last.calls : [];
  }

  /** Add what the user says. Calls that were left open get a result that says so: templates want one for each. */
  say(content, images) {
    this.giveResults(this.openCalls.map(() => "(no result)"));
    this.messages.push({ role: "user", content, images });
  }

  /** Add the results of the open calls, in their order. */
  giveResults(contents) {
    const results = this.openCalls.map(({ id, name }, index) => ({ role: "tool", id, name, content: contents[index] }));
    this.messages.push(...results);
  }

  /** Forget the last answer, so that another can take its place. */
  dropAnswer() {
    if (this.messages.at(-1)?.role === "assistant") this.messages.pop();
  }

  /** The messages of a request. */
  asMessages(system) {
    const before = system ? [{ role: "system", content: system }] : [];
    return [...before, ...this.messages.map(asMessage)];
  }
}

function asMessage(message) {
  switch (message.role) {
    case "user": {
      if (message.images.length === 0) return { role: "user", content: message.content };
      const images = message.images.map((url) => ({ type: "image_url", image_url: { url } }));
      const text = message.content ? [{ type: "text", text: message.content }] : [];
      return { role: "user", content: [...images, ...text] };
    }
    case "tool":
      return { role: "tool", tool_call_id: message.id, content: message.content };
    default: {
      const answer = { role: "assistant", content: message.content };
      if (message.reasoning) answer.reasoning_content = message.reasoning;
      if (message.calls.length > 0) answer.tool_calls = message.calls.map(asCall);
      return answer;
    }
  }
}

function asCall({ id, name, arguments: given }) {
  return { id, type: "function", function: { name, arguments: given } };
}
