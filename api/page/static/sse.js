// Server-sent events, incrementally: https://html.spec.whatwg.org/multipage/server-sent-events.html

/** Collects the data of events from text that comes in pieces of any size. */
export class EventReader {
  #rest = "";
  #data = [];

  /** The data of the events that ``text`` completes, in order. Comments and other fields are dropped. */
  feed(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    const events = [];
    for (const given of lines) {
      const line = given.endsWith("\r") ? given.slice(0, -1) : given;
      if (line === "") {
        if (this.#data.length > 0) events.push(this.#data.join("\n"));
        this.#data = [];
      } else if (line.startsWith("data:")) {
        this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      }
    }
    return events;
  }
}
