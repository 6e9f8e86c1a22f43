// The models: what they are, whether they fit, and whether they are loaded.

import { $, button, bytes, count, el, reconcile, say, setAll, setText } from "./dom.js";
import { access, call } from "./api.js";
import { guarded, onAccess, refused } from "./keys.js";
import { onFigures } from "./live.js";
import { offerModels } from "./chat.js";

let listed = []; // of /v1/models, which only an API key reads
let live = []; // of the figures
let seen = ""; // the states when the list was read
const busy = new Map(); // id -> what is asked for

onAccess(read);
onFigures(figures => {
	live = figures.models;
	const states = JSON.stringify(live.map(it => [it.id, it.state, it.is_pinned, it.fit]));
	if (states === seen) return show();
	seen = states;
	read();
});

async function read() {
	try {
		listed = access.api ? (await call("v1/models")).data : [];
		offerModels(listed);
	} catch (error) {
		refused(error);
	}
	show();
}

/** A model from both sources; each has what the other lacks. */
function merged() {
	const known = new Map(listed.map(it => [it.id, { ...it }]));
	for (const it of live) {
		const model = known.get(it.id) || { id: it.id, reason: it.reason, fit: { text: it.fit } };
		known.set(it.id, Object.assign(model, { status: it.state, pinned: it.is_pinned, running: it.running, waiting: it.waiting, rate: it.generated_tokens }));
	}
	return [...known.values()];
}

function show() {
	const models = merged();
	setText($("models-note"), !models.length ? "There is no model that these keys can see." : access.operate ? "" : "The admin key loads, unloads and pins models.");
	reconcile($("model-list"), models, it => it.id, make, update);
}

function make({ id }) {
	const node = el("li.card", {}, el("h3", {}, id), el("p"), el("p.note"), el("p.note"), el("div.row"));
	// What a button does is in its label, so that it keeps the focus when the model has changed.
	const press = ({ target }) => order(id, target.textContent);
	node.lastChild.append(button("", id, press), button("", id, press));
	return node;
}

function update(node, it) {
	const [, state, facts, fit, buttons] = node.children;
	const doing = busy.get(it.id);
	const work = it.running || it.waiting ? ` · ${count(it.running)} run, ${count(it.waiting)} wait, ${count(it.rate, 1)} tokens/s` : "";
	setText(state, `${doing || it.status}${it.pinned ? " · pinned" : ""}${work}`);
	state.dataset.state = doing ? "loading" : it.status;
	node.setAttribute("aria-busy", Boolean(doing));
	const parts = [it.type, it.context_length && `${count(it.context_length)} tokens`, it.dimensions && `${count(it.dimensions)} dimensions`, it.size_bytes && bytes(it.size_bytes), it.quantization, it.adapter && `adapter ${it.adapter}`, it.aliases?.length && `also ${it.aliases.join(", ")}`];
	setText(facts, parts.filter(Boolean).join(" · "));
	setText(fit, it.reason || it.fit?.text || "");
	fit.classList.toggle("wrong", Boolean(it.reason) || it.fit?.fits === false);
	buttons.hidden = !access.operate;
	[it.status === "loaded" ? "Unload" : "Load", it.pinned ? "Unpin" : "Pin"].forEach((label, i) => {
		setText(buttons.children[i], label);
		setAll(buttons.children[i], { "aria-label": `${label} ${it.id}`, "aria-disabled": Boolean(doing) });
	});
}

async function order(id, label) {
	if (busy.has(id)) return;
	const what = { Load: "loading", Unload: "unloading", Pin: "pinning", Unpin: "unpinning" }[label];
	const body = label.endsWith("in") ? { pin: label === "Pin" } : {};
	busy.set(id, what);
	say(`${what} ${id}`);
	show();
	await guarded("models-wrong", async () => {
		const model = await call(`v1/models/${encodeURIComponent(id)}/${label === "Unload" ? "unload" : "load"}`, { as: "admin", body });
		say(`${id} is ${model.status}${model.pinned ? " and pinned" : ""}.`);
	});
	busy.delete(id);
	await read();
}
