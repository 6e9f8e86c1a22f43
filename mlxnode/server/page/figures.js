// What the node does now and did lately; the requests in flight.

import { $, button, bytes, count, el, fillRows, say, seconds, setAll, setText, table } from "./dom.js";
import { call } from "./api.js";
import { onFigures } from "./live.js";
import { guarded } from "./keys.js";

const LENGTH = 120; // numbers of a sparkline
const SVG = "http://www.w3.org/2000/svg";
const share = value => (value == null ? "–" : `${count(value * 100)} %`);
const rate = value => count(value, value < 10 ? 1 : 0);
const CARDS = [
	["generated_tokens", "Generated tokens/s", rate],
	["prompt_tokens", "Prompt tokens/s", rate],
	["first_token", "Time to the first token", seconds, ({ latency }) => `median; 95%: ${seconds(latency.first_token_p95)}`],
	["inter_token", "Time between tokens", seconds, ({ latency }) => `median; 95%: ${seconds(latency.inter_token_p95)}`],
	["requests", "Requests/s", rate, ({ now }) => `${count(now.in_flight)} in flight`],
	["running", "Batch", count, ({ now }) => `sequences; ${count(now.background)} in the background`],
	["waiting", "Queue", count, () => "sequences that wait"],
	["kv_claimed", "KV cache", bytes, ({ limits }) => `of ${bytes(limits.kv_total)}`],
	["prefix_bytes", "Prefix cache", bytes, ({ limits }) => `entries: ${count(limits.prefix_entries)}`],
	["prefix_share", "Prefix hits", share, () => "of the prompt tokens"],
	["buffer_cache", "Buffer cache", bytes, ({ limits }) => `of ${bytes(limits.buffer_cache)}`],
	["memory", "Memory", bytes, ({ limits }) => `of ${bytes(limits.memory)}`],
];
const series = {};
const cards = {};

const grid = el("div.cards.small");
for (const [name, label] of CARDS) {
	const line = document.createElementNS(SVG, "svg");
	setAll(line, { viewBox: `0 0 ${LENGTH - 1} 30`, preserveAspectRatio: "none", role: "img" });
	line.append(document.createElementNS(SVG, "polyline"));
	const card = { value: el("p.value", {}, "–"), line, note: el("p.note") };
	cards[name] = card;
	grid.append(el("div.card", { role: "group", "aria-label": label }, el("h3", {}, label), card.value, line, card.note));
}
$("figures").append(
	el("p.note", { id: "node" }), grid,
	el("h3", {}, "Use of each key in the last minute"), table("Use of each key", ["Key", "Requests", "Prompt tokens", "Cached", "Generated"], "key-rows"),
	el("h3.admin", {}, "Processes"), table("Processes", ["Name", "State", "Starts", "Runs for"], "process-rows"));
$("process-rows").closest(".scroll").classList.add("admin");
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
	fillRows($("key-rows"), figures.keys, one => one.id, one => [one.id, count(one.requests), count(one.prompt_tokens), count(one.cached_tokens), count(one.completion_tokens)]);
	fillRows($("process-rows"), figures.processes, one => one.name, one => [one.name, one.state, count(one.starts), seconds(one.uptime)]);
	showRequests(figures);
}

function draw({ value, line }, numbers, label, format) {
	const last = numbers.at(-1);
	const top = Math.max(...numbers.map(one => one ?? 0)) || 1;
	const points = numbers.map((one, i) => `${LENGTH - numbers.length + i},${(29 - (28 * (one ?? 0)) / top).toFixed(1)}`);
	setText(value, format(last));
	line.firstChild.setAttribute("points", points.join(" "));
	line.setAttribute("aria-label", `${label} in the last ${numbers.length} seconds: now ${format(last)}, at most ${format(Math.max(...numbers))}`);
}

function showRequests({ requests, num_requests: all }) {
	const more = all > requests.length ? `, of which the oldest ${count(requests.length)} are shown` : "";
	setText($("requests-note"), all ? `${count(all)} in flight${more}` : "None.");
	const cells = one => [one.request_id, one.key, one.model, one.path, one.is_background ? `${one.state}, background` : one.state, seconds(one.seconds), `${count(one.prompt_tokens)}${one.cached_tokens ? ` (${count(one.cached_tokens)} cached)` : ""}`, count(one.completion_tokens)];
	fillRows($("request-rows"), requests, one => one.id, cells, one =>
		button("Cancel", one.request_id, event => cancel(one, event.target)));
}

async function cancel(one, pressed) {
	pressed.disabled = true;
	const path = `v1/requests/${encodeURIComponent(one.id)}/cancel`;
	const isDone = await guarded("requests-wrong", () => call(path, { as: "any", method: "POST" }));
	if (isDone) say(`${one.request_id} is cancelled.`);
	pressed.disabled = isDone;
}
