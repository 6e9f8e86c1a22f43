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
	const states = JSON.stringify(live.map(one => [one.id, one.state, one.is_pinned, one.fit]));
	if (states === seen) return show();
	seen = states;
	read();
});

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
	const known = new Map(listed.map(one => [one.id, { ...one }]));
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
	reconcile($("model-list"), models, one => one.id, make, update);
}

function make({ id }) {
	const node = el("li.card", {}, el("h3", {}, id), el("p.state"), el("p.note"), el("p.note"), el("div.row.operate"));
	// What a button does is in its label, so that it keeps the focus when the model has changed.
	const press = ({ target }) => order(id, target.textContent);
	node.lastChild.append(button("", id, press), button("", id, press));
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
	[one.status === "loaded" ? "Unload" : "Load", one.pinned ? "Unpin" : "Pin"].forEach((label, i) => {
		setText(buttons.children[i], label);
		setAll(buttons.children[i], { "aria-label": `${label} ${one.id}`, "aria-disabled": Boolean(doing) });
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
