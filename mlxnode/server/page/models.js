// The models: what they are, whether they fit, and whether they are loaded.

import { $, bytes, count, el, reconcile, say, setText } from "./dom.js";
import { access, call } from "./api.js";
import { onAccess, refused } from "./keys.js";
import { onFigures } from "./live.js";
import { offerModels } from "./chat.js";

let listed = []; // of /v1/models, which only an API key reads
let live = []; // of the figures
let seen = ""; // the states when the list was read
const busy = new Map(); // id -> what is asked for

export function startModels() {
  onAccess(read);
  onFigures((figures) => {
    live = figures.models;
    const states = JSON.stringify(live.map((one) => [one.id, one.state, one.is_pinned, one.fit]));
    if (states === seen) return show();
    seen = states;
    read();
  });
}

async function read() {
  try {
    listed = access.chat ? (await call("v1/models")).data : [];
    offerModels(listed);
  } catch (error) {
    refused(error);
  }
  show();
}

/** A model from both sources; each has what the other lacks. */
function merged() {
  const known = new Map(listed.map((one) => [one.id, { ...one }]));
  for (const one of live) {
    const fit = one.fit && { text: one.fit, fits: !/not/.test(one.fit) };
    const model = known.get(one.id) || { id: one.id, reason: one.reason, fit };
    known.set(one.id, Object.assign(model, { status: one.state, pinned: one.is_pinned, running: one.running, waiting: one.waiting, rate: one.generated_tokens }));
  }
  return [...known.values()];
}

function show() {
  const models = merged();
  setText($("models-note"), !models.length ? "There is no model that these keys can see." : access.operate ? "" : "The admin key loads, unloads and pins models.");
  reconcile($("model-list"), models, (one) => one.id, make, update);
}

function make({ id }) {
  const button = (label, act) => el("button.small", { type: "button", "aria-label": `${label} ${id}`, onclick: () => act(id) }, label);
  const node = el("li.card", {}, el("h3", {}, id), el("p.state"), el("p.note"), el("p.note"), el("div.row.operate"));
  node.lastChild.append(
    button("Load", (id) => order(id, "load", {})), button("Unload", (id) => order(id, "unload")),
    button("Pin", (id) => order(id, "load", { pin: true })), button("Unpin", (id) => order(id, "load", { pin: false })));
  return node;
}

function update(node, one) {
  const [, state, facts, fit, buttons] = node.children;
  const doing = busy.get(one.id);
  const work = one.running || one.waiting ? ` · ${count(one.running)} run, ${count(one.waiting)} wait, ${count(one.rate, 1)} tokens/s` : "";
  setText(state, `${doing || one.status}${one.pinned ? " · pinned" : ""}${work}`);
  state.dataset.state = doing ? "loading" : one.status;
  node.setAttribute("aria-busy", String(Boolean(doing)));
  const parts = [one.type, one.context_length && `${count(one.context_length)} tokens`, one.dimensions && `${count(one.dimensions)} dimensions`, one.size_bytes && bytes(one.size_bytes), one.quantization, one.adapter && `adapter ${one.adapter}`, one.aliases?.length && `also ${one.aliases.join(", ")}`];
  setText(facts, parts.filter(Boolean).join(" · "));
  setText(fit, one.reason || one.fit?.text || "");
  fit.classList.toggle("wrong", Boolean(one.reason) || one.fit?.fits === false);
  buttons.hidden = !access.operate;
  const isLoaded = one.status === "loaded";
  [isLoaded, !isLoaded, one.pinned, !one.pinned].forEach((isOff, i) => {
    buttons.children[i].hidden = i > 1 ? isOff : false;
    buttons.children[i].disabled = Boolean(doing) || (i < 2 && isOff);
  });
}

async function order(id, verb, body) {
  const what = verb === "unload" ? "unloading" : body.pin === false ? "unpinning" : body.pin ? "pinning" : "loading";
  busy.set(id, what);
  $("models-wrong").textContent = "";
  say(`${what} ${id}`);
  show();
  try {
    const path = `v1/models/${id.split("/").map(encodeURIComponent).join("/")}/${verb}`;
    const model = await call(path, { as: "admin", body: body || {} });
    say(`${id} is ${model.status}${model.pinned ? " and pinned" : ""}.`);
  } catch (error) {
    $("models-wrong").textContent = `${id}: ${error.message}`;
    refused(error);
  }
  busy.delete(id);
  await read();
}
