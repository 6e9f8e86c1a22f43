// Starts the page: tabs, theme, keys, then the parts.

import { $, el } from "./dom.js";
import { access } from "./api.js";
import { onAccess, startKeys } from "./keys.js";
import { startChat } from "./chat.js";
import { startCopy } from "./copy.js";
import { startLive } from "./live.js";
import { startFigures } from "./figures.js";
import { startModels } from "./models.js";
import { startEmbeddings } from "./embeddings.js";
import { showBatches, startBatches } from "./batches.js";
import { showAdmin, startAdmin } from "./admin.js";

const panels = [...document.querySelectorAll("section[data-tab]")];
const tabs = panels.map((panel) => {
  const id = `tab-${panel.id}`;
  Object.entries({ role: "tabpanel", "aria-labelledby": id, tabindex: "0" }).forEach((one) => panel.setAttribute(...one));
  return el("button", { type: "button", role: "tab", id, "aria-controls": panel.id, onclick: () => select(panel.id) }, panel.dataset.tab);
});
const onShow = { batches: showBatches, admin: showAdmin };

function select(name) {
  const fitting = panels.filter((panel) => !tabs[panels.indexOf(panel)].hidden);
  const chosen = fitting.find((panel) => panel.id === name) || fitting[0];
  const isNew = chosen.hidden;
  panels.forEach((panel, i) => {
    panel.hidden = panel !== chosen;
    tabs[i].setAttribute("aria-selected", String(panel === chosen));
    tabs[i].tabIndex = panel === chosen ? 0 : -1;
  });
  history.replaceState(null, "", `#${chosen.id}`);
  if (isNew) onShow[chosen.id]?.();
}

$("tabs").append(...tabs);
$("tabs").addEventListener("keydown", (event) => {
  const shown = tabs.filter((tab) => !tab.hidden);
  const at = shown.indexOf(document.activeElement);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const tab = shown.at(next % shown.length);
  tab.focus();
  tab.click();
});

const theme = sessionStorage.getItem("mlxnode.theme") || "";
$("theme").value = document.documentElement.dataset.theme = theme;
$("theme").addEventListener("change", () => {
  document.documentElement.dataset.theme = $("theme").value;
  sessionStorage.setItem("mlxnode.theme", $("theme").value);
});

onAccess(() => {
  $("tab-admin").hidden = !access.admin;
  for (const name of ["playground", "embeddings", "batches"]) $(`tab-${name}`).hidden = access.admin && !access.chat;
  select(panels.find((panel) => !panel.hidden)?.id || wanted);
});
const wanted = location.hash.slice(1);
select(wanted);
for (const start of [startChat, startCopy, startFigures, startModels, startEmbeddings, startBatches, startAdmin, startLive]) start();
startKeys();
