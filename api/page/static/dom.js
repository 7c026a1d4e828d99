// Elements from code. Strings become text nodes, so nothing that a model writes can become markup.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** An element: attributes by name (null, undefined and false: absent), listeners as "onclick" and the like, children. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Tell it to those who listen to the page. */
export function announce(text) {
  byId("announce").textContent = text;
}

/** Show a line above the views; "" takes it away. */
export function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = text === "";
}

/** Put text into the clipboard, also where the page came over plain HTTP. */
export async function copy(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const field = h("textarea", { class: "unseen", readonly: true });
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

/** A button that copies what ``text()`` gives when it is pressed. */
export function copyButton(text, label) {
  const button = h("button", { type: "button", class: "small", "aria-label": label }, "Copy");
  button.addEventListener("click", async () => {
    await copy(text());
    button.textContent = "Copied";
    announce("Copied");
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}
