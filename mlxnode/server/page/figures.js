// What the node does now and did lately; the requests in flight.

import { $, button, bytes, count, el, fields, fillRows, say, seconds, setAll, setText, table } from "./dom.js";
import { call } from "./api.js";
import { onFigures } from "./live.js";
import { guarded } from "./keys.js";

const LENGTH = 120; // numbers of a sparkline
const SVG = "http://www.w3.org/2000/svg";
const share = value => (value == null ? "–" : `${count(value * 100)} %`);
const rate = value => count(value, value < 10 ? 1 : 0);
const p95 = name => ({ latency }) => `median; 95%: ${seconds(latency[name])}`;
const of = name => ({ limits }) => `of ${bytes(limits[name])}`;
const CARDS = [
	["generated_tokens", "Generated tokens/s", rate],
	["prompt_tokens", "Prompt tokens/s", rate],
	["first_token", "Time to the first token", seconds, p95("first_token_p95")],
	["inter_token", "Time between tokens", seconds, p95("inter_token_p95")],
	["requests", "Requests/s", rate, ({ now }) => `${count(now.in_flight)} in flight`],
	["running", "Batch", count, ({ now }) => `sequences; ${count(now.background)} in the background`],
	["waiting", "Queue", count, () => "sequences that wait"],
	["kv_claimed", "KV cache", bytes, of("kv_total")],
	["prefix_bytes", "Prefix cache", bytes, ({ limits }) => `entries: ${count(limits.prefix_entries)}`],
	["prefix_share", "Prefix hits", share, () => "of the prompt tokens"],
	["buffer_cache", "Buffer cache", bytes, of("buffer_cache")],
	["memory", "Memory", bytes, of("memory")],
];
const series = {};
const cards = {};

const grid = el("div.cards.small");
for (const [name, label] of CARDS) {
	const line = document.createElementNS(SVG, "svg");
	setAll(line, { viewBox: `-1 0 ${LENGTH + 1} 30`, preserveAspectRatio: "none", role: "img" });
	line.append(document.createElementNS(SVG, "polyline"));
	const card = { value: el("p.value", {}, "–"), line, note: el("p.note") };
	cards[name] = card;
	grid.append(el("div.card", { role: "group", "aria-label": label }, el("h3", {}, label), card.value, line, card.note));
}
$("figures").append(
	el("p.note", { id: "node" }), grid,
	el("h3", {}, "Use of each key in the last minute"), table("Use of each key", ["Key", "Requests", "Prompt tokens", "Cached", "Generated"], "key-rows"));
$("requests").append(table("Requests in flight", ["Request", "Key", "Model", "Path", "State", "For", "Prompt", "Tokens", ""], "request-rows"));
onFigures(show);

function show(figures) {
	for (const [name, label, format, note] of CARDS) {
		const history = figures.history?.series[name];
		const own = (series[name] = history ? [...history] : [...(series[name] || []), figures.now[name]]);
		own.splice(0, own.length - LENGTH);
		draw(cards[name], own, label, format);
		if (note) setText(cards[name].note, note(figures));
	}
	const pressure = figures.limits.pressure === "normal" ? "" : ` · memory is short: ${figures.limits.pressure}`;
	setText($("node"), `Version ${figures.version}, running for ${seconds(figures.uptime)}${pressure}${figures.sees_all ? "" : ` · models, requests and use are those of the key ${figures.key}`}`);
	fillRows($("key-rows"), figures.keys, it => it.id, fields(["id", "requests", "prompt_tokens", "cached_tokens", "completion_tokens"]));
	showRequests(figures);
}

function draw({ value, line }, numbers, label, format) {
	const last = numbers.at(-1);
	const top = Math.max(...numbers.map(it => it ?? 0)) || 1;
	const points = numbers.map((it, i) => `${LENGTH - numbers.length + i},${(29 - (28 * (it ?? 0)) / top).toFixed(1)}`);
	setText(value, format(last));
	line.firstChild.setAttribute("points", points.join(" "));
	line.setAttribute("aria-label", `${label} in the last ${numbers.length} seconds: now ${format(last)}, at most ${format(Math.max(...numbers))}`);
}

function showRequests({ requests, num_requests: all }) {
	setText($("requests-note"), all ? `${count(all)} in flight${all > requests.length ? ", the oldest are shown" : ""}` : "None.");
	const cells = it => [it.request_id, it.key, it.model, it.path, it.is_background ? `${it.state}, background` : it.state, seconds(it.seconds), `${count(it.prompt_tokens)}${it.cached_tokens ? ` (${count(it.cached_tokens)} cached)` : ""}`, count(it.completion_tokens)];
	fillRows($("request-rows"), requests, it => it.id, cells, it =>
		button("Cancel", it.request_id, event => cancel(it, event.target)));
}

async function cancel(it, pressed) {
	pressed.disabled = true;
	const path = `v1/requests/${encodeURIComponent(it.id)}/cancel`;
	const isDone = await guarded("requests-wrong", () => call(path, { as: "any", body: {} }));
	if (isDone) say(`${it.request_id} is cancelled.`);
	pressed.disabled = isDone;
}
