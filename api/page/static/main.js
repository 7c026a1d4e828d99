// The page's beginning: which view is shown, whether the server is ready, whether it wants a key.

import { getJson, useKey, whenKeyIsNeeded } from "./api.js";
import { Chat } from "./chat.js";
import { byId, notice } from "./dom.js";
import { Images } from "./images.js";
import { Server } from "./server.js";

const AGAIN = 2000; // milliseconds until a server that is not ready is asked again
const VIEWS = ["chat", "images", "server"];

const chat = new Chat();
const images = new Images();
const server = new Server();
let connected = false;

function showView() {
  const wanted = location.hash.slice(1);
  const view = VIEWS.includes(wanted) ? wanted : "chat";
  for (const name of VIEWS) byId(`view-${name}`).hidden = name !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  server.shown();
}

async function connect() {
  try {
    const about = await getJson("ui/server.json");
    const { data: models } = await getJson("v1/models");
    begin(about, models);
    notice("");
  } catch (error) {
    if (error.status === 401) return; // goes on with a key
    notice(error.status === 503 ? `${error.message}…` : error.message);
    setTimeout(connect, AGAIN);
  }
}

function begin(about, models) {
  connected = true;
  const text = models.find(({ meta }) => "n_vocab" in meta);
  const image = models.find(({ meta }) => "max_batch_count" in meta);
  byId("model").textContent = [text, image].filter(Boolean).map(({ id }) => id).join(", ");
  if (about.features.chat === null) chat.enable(text);
  else chat.disable(about.features.chat);
  if (about.features.images === null) images.enable(image);
  else images.disable(about.features.images);
  server.enable(about, models);
  if (about.features.chat !== null && about.features.images === null && !location.hash) location.hash = "#images";
}

function askForKey() {
  if (!byId("key-dialog").open) byId("key-dialog").showModal();
}

whenKeyIsNeeded(askForKey);
byId("change-key").addEventListener("click", askForKey);
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value.trim(), byId("key-keep").checked);
  byId("key").value = "";
  byId("key-dialog").close();
  if (!connected) connect();
});
byId("key-dialog").addEventListener("close", () => {
  if (!connected) notice("Without a key this server answers nothing. The key can be given under Server.");
});
window.addEventListener("hashchange", showView);
showView();
connect();
