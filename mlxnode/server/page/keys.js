// The dialog of the keys. They are in the session storage of this tab, and in no URL.

import { $, say } from "./dom.js";
import { access, ApiError, keyOf, setKey, tryKeys } from "./api.js";

const NOTHING = { chat: false, admin: false, operate: false, keyless: false };
const changed = new EventTarget();

/** Call `act` whenever the keys have changed, and with them what the page can show. */
export function onAccess(act) {
  changed.addEventListener("change", act);
}

export async function startKeys() {
  $("keys-open").addEventListener("click", () => open());
  $("keys-close").addEventListener("click", () => $("keys").close());
  $("keys-forget").addEventListener("click", forget);
  $("keys-form").addEventListener("submit", (event) => {
    event.preventDefault();
    enter();
  });
  try {
    const { node, can, wrong } = await tryKeys({ api: keyOf("api"), admin: keyOf("admin") });
    apply(can);
    const needs = node.key_required && !can.chat && !can.admin;
    if (needs || wrong.api || wrong.admin) open(wrong);
  } catch (error) {
    apply(NOTHING);
    $("keys-state").textContent = error.message;
    setTimeout(startAgain, 3000);
  }
}

/** The node did not answer at all: a page that was open while the node started. */
async function startAgain() {
  try {
    const { can } = await tryKeys({ api: keyOf("api"), admin: keyOf("admin") });
    apply(can);
  } catch {
    setTimeout(startAgain, 3000);
  }
}

/** A request was refused for its key: it was changed on the node, or forgotten here. */
export function refused(error) {
  if (error instanceof ApiError && error.status === 401) open({ api: error.message });
}

function open(wrong = {}) {
  show(wrong);
  $("key-api").value = keyOf("api");
  $("key-admin").value = keyOf("admin");
  if (!$("keys").open) $("keys").showModal();
  if (wrong.admin && !wrong.api) $("key-admin").focus();
  else $("key-api").focus();
}

function show(wrong) {
  for (const kind of ["api", "admin"]) {
    $(`key-${kind}-wrong`).textContent = wrong[kind] || "";
    $(`key-${kind}`).setAttribute("aria-invalid", String(Boolean(wrong[kind])));
  }
}

async function enter() {
  const keys = { api: $("key-api").value.trim(), admin: $("key-admin").value.trim() };
  show({});
  if (!keys.api && !keys.admin && !access.keyless) {
    return show({ api: "Type an API key, an admin key, or both." });
  }
  $("keys-enter").disabled = true;
  try {
    const { can, wrong } = await tryKeys(keys);
    if (wrong.api || wrong.admin) {
      show(wrong);
      $(wrong.api ? "key-api" : "key-admin").focus();
      return;
    }
    setKey("api", keys.api);
    setKey("admin", keys.admin);
    apply(can);
    $("keys").close();
    say("The key is right.");
  } catch (error) {
    show({ api: error.message });
  } finally {
    $("keys-enter").disabled = false;
  }
}

async function forget() {
  setKey("api", "");
  setKey("admin", "");
  $("key-api").value = $("key-admin").value = "";
  show({});
  try {
    apply((await tryKeys({ api: "", admin: "" })).can);
  } catch {
    apply(NOTHING);
  }
  say("The keys are forgotten.");
}

function apply(can) {
  Object.assign(access, can);
  const kinds = [keyOf("api") && "API key", keyOf("admin") && "admin key"].filter(Boolean);
  const without = access.keyless ? "no key needed" : "no key";
  $("keys-state").textContent = kinds.length ? kinds.join(" and ") : without;
  document.body.classList.toggle("is-admin", access.admin);
  changed.dispatchEvent(new Event("change"));
}
