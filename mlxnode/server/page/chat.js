// The playground: a conversation with one model.

import { $, on, count, el, say, seconds, setText } from "./dom.js";
import { events, send } from "./api.js";
import { refused } from "./keys.js";
import { code, showMarkdown, visible } from "./markdown.js";

const turns = []; // { message, node }: as the API takes it, and its element
let running = null; // the AbortController of the answer
let pending = null; // the form for the results of tool calls

on("composer", "submit", event => {
	event.preventDefault();
	submit();
});
on("message", "keydown", event => {
	if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
	event.preventDefault();
	if (!running) submit();
});
on("stop", "click", () => running?.abort());
on("regenerate", "click", regenerate);
on("clear", "click", clear);
on("format", "change", () => ($("schema-label").hidden = $("format").value !== "json_schema"));

/** Offer the models of a list of the API; what was chosen stays. */
export function offerModels(models) {
	for (const [id, types] of [["model", ["chat", "completion"]], ["embed-model", ["embedding"]]]) {
		const fitting = models.filter(it => types.includes(it.type));
		const chosen = $(id).value;
		const ids = fitting.map(it => it.id);
		if (String([...$(id).options].map(it => it.value)) === String(ids)) continue;
		$(id).replaceChildren(...fitting.map(it => el("option", { value: it.id, "data-type": it.type }, it.id)));
		if (ids.includes(chosen)) $(id).value = chosen;
	}
}

/** The path and the body of the request, with `draft` as the last message if there is one. */
export function request(draft) {
	const body = { model: $("model").value };
	if (!body.model) throw new Error("There is no model that this key can use.");
	for (const name of ["temperature", "top_p", "max_tokens", "seed"]) {
		if (!$(name).validity.valid) throw new Error(`${name}: ${$(name).validationMessage}`);
		if ($(name).value !== "") body[name] = Number($(name).value);
	}
	const messages = turns.map(turn => turn.message);
	if (draft) messages.push({ role: "user", content: draft });
	while (messages.at(-1)?.role === "assistant" && !messages.at(-1).tool_calls) messages.pop();
	if ($("model").selectedOptions[0].dataset.type === "completion") return { path: "completions", body: { ...body, prompt: messages.findLast(it => it.role === "user")?.content ?? "" } };
	if ($("system").value.trim()) messages.unshift({ role: "system", content: $("system").value });
	body.messages = messages;
	if ($("reasoning_effort").value) body.reasoning_effort = $("reasoning_effort").value;
	const type = $("format").value;
	if (type === "json_schema") body.response_format = { type, json_schema: { name: "answer", schema: parsed("schema", "JSON schema") } };
	else if (type) body.response_format = { type };
	if ($("tools").value.trim()) body.tools = parsed("tools", "Tools");
	return { path: "chat/completions", body };
}

function parsed(id, name) {
	try {
		return JSON.parse($(id).value);
	} catch (error) {
		throw new Error(`${name}: no valid JSON (${error.message})`);
	}
}

function submit() {
	const text = $("message").value;
	if (!text.trim() || running) return;
	if (pending) sendResults();
	add({ role: "user", content: text }, "You", el("div.text", { dir: "auto" }, visible(text)));
	$("message").value = "";
	answer();
}

function article(name, ...children) {
	const node = el("article", {}, el("h3", {}, name), ...children);
	$("log").append(node);
	return node;
}

function add(message, name, ...children) {
	const node = article(name, ...children);
	turns.push({ message, node });
	return node;
}

function regenerate() {
	pending = null;
	while (turns.length && turns.at(-1).message.role === "assistant") turns.pop().node.remove();
	$("log").querySelectorAll("article.failed").forEach(node => node.remove());
	if (turns.length) answer();
}

function clear() {
	running?.abort();
	pending = null;
	turns.length = 0;
	$("log").replaceChildren();
	setState();
	say("The conversation is cleared.");
	$("message").focus();
}

function setState() {
	const { activeElement: active } = document;
	$("send").disabled = Boolean(running);
	$("stop").disabled = !running;
	$("regenerate").disabled = Boolean(running) || !turns.length;
	$("clear").disabled = !$("log").childElementCount;
	if (active.disabled) $(running ? "stop" : "message").focus();
}

/** An answer while it comes, and its elements. `first`: when its first token came. */
class Answer {
	text = "";
	reasoning = "";
	calls = [];
	finish = "the stream ended early";
	usage = null;
	first = null;
	#cost = 0;
	#timer = null;

	constructor(model, isPlain) {
		this.isPlain = isPlain;
		this.started = performance.now();
		this.thoughts = el("div.text", { dir: "auto" });
		this.details = el("details", { hidden: "" }, el("summary", {}, "Reasoning"), this.thoughts);
		this.content = el(isPlain ? "div.text" : "div.markdown");
		this.callList = el("div");
		this.facts = el("p.note", {}, "…");
		this.node = article(model, this.details, this.content, this.callList, this.facts);
		this.node.setAttribute("aria-busy", "true");
	}

	take(chunk) {
		this.usage = chunk.usage || this.usage;
		const choice = chunk.choices?.[0];
		if (!choice) return;
		this.finish = choice.finish_reason || this.finish;
		const delta = choice.delta || { content: choice.text };
		const calls = delta.tool_calls || [];
		if (this.first === null && (delta.content || delta.reasoning_content || calls.length)) this.first = performance.now();
		this.text += delta.content || "";
		this.reasoning += delta.reasoning_content || "";
		for (const part of calls) {
			const call = (this.calls[part.index] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
			call.id ||= part.id || "";
			call.function.name += part.function?.name || "";
			call.function.arguments += part.function?.arguments || "";
		}
		// A long answer takes longer to draw: then it is drawn less often.
		this.#timer ??= setTimeout(() => this.draw(), Math.max(40, 4 * this.#cost));
	}

	draw() {
		const page = document.documentElement;
		const isAtEnd = innerHeight + scrollY > page.scrollHeight - 120;
		const start = performance.now();
		clearTimeout(this.#timer);
		this.#timer = null;
		if (this.reasoning) {
			this.details.hidden = false;
			setText(this.thoughts, visible(this.reasoning));
		}
		if (this.isPlain) setText(this.content, visible(this.text));
		else showMarkdown(this.content, this.text);
		this.calls.forEach((call, i) => {
			const node = this.callList.children[i] || this.callList.appendChild(el("div.call", {}, el("p"), el("pre", { tabindex: 0 })));
			setText(node.firstChild, `Calls ${visible(call.function.name)}`);
			setText(node.lastChild, visible(call.function.arguments));
		});
		this.#cost = performance.now() - start;
		if (isAtEnd) scrollTo({ top: page.scrollHeight });
	}

	end(how) {
		this.draw();
		this.node.removeAttribute("aria-busy");
		const { usage, first } = this;
		const parts = [how || this.finish];
		if (usage) {
			const cached = usage.prompt_tokens_details?.cached_tokens;
			parts.push(`${count(usage.prompt_tokens)} prompt tokens${cached ? ` (${count(cached)} cached)` : ""}`, `${count(usage.completion_tokens)} tokens`);
		}
		if (first !== null) parts.push(`first token after ${seconds((first - this.started) / 1000)}`);
		const spent = (performance.now() - first) / 1000;
		if (usage?.completion_tokens > 1 && first !== null) parts.push(`${count((usage.completion_tokens - 1) / spent, 1)} tokens/s`);
		setText(this.facts, parts.join(" · "));
	}
}

async function answer() {
	let shown = null;
	const own = (running = new AbortController());
	setState();
	try {
		const { path, body } = request();
		shown = new Answer(body.model, path === "completions");
		say("The model answers.");
		const options = { body: { ...body, stream: true, stream_options: { include_usage: true } }, signal: own.signal, accept: "text/event-stream" };
		for await (const { data } of events(await send(`v1/${path}`, options))) {
			if (data === "[DONE]") break;
			const chunk = JSON.parse(data);
			if (chunk.error) throw new Error(chunk.error.message);
			shown.take(chunk);
		}
		keep(shown);
	} catch (error) {
		if (own.signal.aborted) {
			if (shown?.node.isConnected) keep(shown, "stopped");
		} else fail(shown, error);
	} finally {
		own.abort(); // what is read no further
		if (running === own) running = null;
		setState();
	}
}

function keep(shown, how) {
	shown.end(how);
	const message = { role: "assistant", content: shown.text };
	const calls = how ? [] : shown.calls.filter(Boolean);
	if (calls.length) {
		message.tool_calls = calls;
		if (shown.reasoning) message.reasoning_content = shown.reasoning;
		askResults(shown, calls);
	}
	turns.push({ message, node: shown.node });
	const names = calls.map(it => it.function.name).join(", ");
	say(how ? "Stopped." : calls.length ? `The model calls ${names}.` : `Answer: ${shown.text.slice(0, 600)}`);
}

function fail(shown, error) {
	shown?.end("failed");
	const node = shown?.node || article("Not sent");
	node.classList.add("failed");
	node.append(el("p.wrong", { role: "alert" }, error.message));
	refused(error);
}

function askResults(shown, calls) {
	const labels = calls.map(call => el("label", {}, `Result of ${visible(call.function.name)} `, el("textarea", { rows: 2 })));
	const onsubmit = event => {
		event.preventDefault();
		if (running) return;
		sendResults();
		answer();
	};
	pending = el("form", { onsubmit }, ...labels, el("button", { type: "submit" }, "Send results"));
	pending.calls = calls;
	shown.callList.append(pending);
}

function sendResults() {
	const { calls } = pending;
	const results = [...pending.querySelectorAll("textarea")].map(it => it.value);
	pending.remove();
	pending = null;
	calls.forEach((call, i) => {
		const content = results[i];
		add({ role: "tool", tool_call_id: call.id, content }, `Result of ${visible(call.function.name)}`, code(visible(content), "result"));
	});
}
