// Tabs and theme; each part starts itself, and the keys come last.

import { $, on, el, setAll } from "./dom.js";
import { access } from "./api.js";
import { onAccess, startKeys } from "./keys.js";
import "./chat.js";
import "./copy.js";
import "./live.js";
import "./figures.js";
import "./models.js";
import "./embeddings.js";
import { showBatches } from "./batches.js";
import { showAdmin } from "./admin.js";

const panels = [...document.querySelectorAll("section[data-tab]")];
const tabs = panels.map(panel => {
	const id = `tab-${panel.id}`;
	setAll(panel, { role: "tabpanel", "aria-labelledby": id, tabindex: 0 });
	return el("button", { role: "tab", id, "aria-controls": panel.id, onclick: () => select(panel.id) }, panel.dataset.tab);
});
const onShow = { batches: showBatches, admin: showAdmin };

/** Show a part; what it has to ask for is asked for `anew`, or when it was not shown before. */
function select(name, anew) {
	const fitting = panels.filter((_, i) => !tabs[i].hidden);
	const chosen = fitting.find(panel => panel.id === name) || fitting[0];
	anew ||= chosen.hidden;
	panels.forEach((panel, i) => {
		panel.hidden = panel !== chosen;
		tabs[i].setAttribute("aria-selected", panel === chosen);
		tabs[i].tabIndex = panel === chosen ? 0 : -1;
	});
	history.replaceState(null, "", `#${chosen.id}`);
	if (anew) onShow[chosen.id]?.();
}

$("tabs").append(...tabs);
on("tabs", "keydown", event => {
	const shown = tabs.filter(tab => !tab.hidden);
	const at = shown.indexOf(document.activeElement);
	const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
	if (next === undefined) return;
	event.preventDefault();
	const tab = shown.at(next % shown.length);
	tab.focus();
	tab.click();
});

const theme = sessionStorage.getItem("mlxnode.theme") || "";
const { dataset } = document.documentElement;
$("theme").value = dataset.theme = theme;
on("theme", "change", () => {
	sessionStorage.setItem("mlxnode.theme", (dataset.theme = $("theme").value));
});

onAccess(() => {
	$("tab-admin").hidden = !access.admin;
	for (const name of ["playground", "embeddings", "batches"]) $(`tab-${name}`).hidden = access.admin && !access.api;
	select(panels.find(panel => !panel.hidden)?.id || wanted, true);
});
const wanted = location.hash.slice(1);
select(wanted);
startKeys();
