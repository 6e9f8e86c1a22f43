// Requests to the node of this page, with the keys of this tab.

/** Also behind a proxy that puts a path before it. */
export const root = new URL("../", import.meta.url);

/** What the keys of this tab can do; `operate`: load and unload models; `keyless`: no key is needed. */
export const access = {};

const refusal = (status, message, code) => Object.assign(new Error(message), { status, code });

export function keyOf(kind) {
	return sessionStorage.getItem(`mlxnode.${kind}`) || "";
}

export function setKey(kind, key) {
	if (key) sessionStorage.setItem(`mlxnode.${kind}`, key);
	else sessionStorage.removeItem(`mlxnode.${kind}`);
}

/**
 * The response to a request; an error if the node refuses it or does not answer.
 * `as`: whose key is sent: "api", "admin", or "any": that of the admin if there is one.
 */
export async function send(path, { as = "api", body, signal, accept, key } = {}) {
	const sent = key ?? (as === "any" ? keyOf("admin") || keyOf("api") : keyOf(as));
	const headers = { accept: accept || "application/json" };
	if (sent) headers.authorization = `Bearer ${sent}`;
	if (body) headers["content-type"] = "application/json";
	let response;
	try {
		response = await fetch(new URL(path, root), {
			method: body ? "POST" : "GET",
			headers,
			body: JSON.stringify(body),
			signal,
			credentials: "omit",
		});
	} catch (error) {
		if (error.name === "AbortError") throw error;
		if (/[^\x20-\x7e]/.test(sent)) throw refusal(401, "The key has characters that no key has.");
		throw refusal(0, "The node does not answer.");
	}
	if (response.ok) return response;
	const text = await response.text();
	let error = {};
	try {
		error = JSON.parse(text).error || {};
	} catch {} // from a proxy
	throw refusal(response.status, error.message || `HTTP ${response.status}`, error.code);
}

export async function call(path, options) {
	return (await send(path, options)).json();
}

/** The server-sent events of a response: { event, data }, one after the other. */
export async function* events(response) {
	const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
	let rest = "";
	let event = "message";
	let data = [];
	for (;;) {
		const { value, done } = await reader.read();
		if (done) return;
		const lines = (rest + value).split("\n");
		rest = lines.pop();
		for (const raw of lines) {
			const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
			if (line === "") {
				if (data.length) yield { event, data: data.join("\n") };
				event = "message";
				data = [];
			} else if (line.startsWith("event:")) event = line.slice(6).trim();
			else if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
		}
	}
}

/** Find out what `keys` can do. Returns what is wrong with them, by their kind. */
export async function tryKeys(keys) {
	const node = await call("", { key: "" });
	const wrong = {};
	const can = { chat: !node.key_required, admin: false, keyless: !node.key_required };
	if (keys.api) {
		try {
			await call("v1/models", { key: keys.api });
			can.chat = true;
		} catch (error) {
			if (error.code === "wrong_kind_of_key" && !keys.admin) Object.assign(keys, { admin: keys.api, api: "" });
			else wrong.api = error.message;
		}
	}
	if (keys.admin) {
		try {
			await call("admin/keys", { key: keys.admin });
			can.admin = true;
		} catch (error) {
			if (error.code === "wrong_kind_of_key" && !keys.api) {
				Object.assign(keys, { api: keys.admin, admin: "" });
				can.chat = true;
			} else if (error.status === 404) wrong.admin = "This node has no admin key: [api] admin_key sets it.";
			else wrong.admin = error.message;
		}
	}
	if (!can.chat && !can.admin && !wrong.admin) wrong.api ??= "This node needs a key.";
	can.operate = can.admin || (can.keyless && !node.has_admin_key);
	return { can, wrong };
}
