// Requests to the node of this page, with the keys of this tab.

/** Also behind a proxy that puts a path before it. */
export const root = new URL("../", import.meta.url);

/**
 * What this tab may do. `api`: what an API key may; `admin`: what the admin key may;
 * `operate`: load and unload models; `keyless`: the node needs no key.
 */
export const access = {};

const refusal = (status, message, more) => Object.assign(new Error(message), { status, ...more });

export function keyOf(kind) {
	return sessionStorage.getItem(`mlxnode.${kind}`) || "";
}

export function setKey(kind, key) {
	if (key) sessionStorage.setItem(`mlxnode.${kind}`, key);
	else sessionStorage.removeItem(`mlxnode.${kind}`);
}

/**
 * The response to a request; an error if the node refuses it or does not answer.
 * `as`: which key is sent, and named by the error: "api", "admin", or "any" of them.
 */
export async function send(path, { as = "api", body, signal, accept, key } = {}) {
	const kind = as !== "any" ? as : keyOf("admin") ? "admin" : "api";
	const sent = key ?? keyOf(kind);
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
		if (/[^\x20-\x7e]/.test(sent)) throw refusal(401, "The key has characters that no key has.", { kind });
		throw refusal(0, "The node does not answer.");
	}
	if (response.ok) return response;
	// A proxy answers in other forms.
	const { error } = await response.json().catch(() => ({}));
	throw refusal(response.status, error?.message || `HTTP ${response.status}`, { kind, code: error?.code });
}

export const call = async (path, options) => (await send(path, options)).json();

/** The server-sent events of a response: { event, data }, one after the other. */
export async function* events(response) {
	const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
	let rest = "";
	let event = "message";
	let data = [];
	const lost = error => {
		throw error.name === "AbortError" ? error : refusal(0, "The connection to the node is lost.");
	};
	for (;;) {
		const { value, done } = await reader.read().catch(lost);
		if (done) return;
		const lines = (rest + value).split(/\r?\n/);
		rest = lines.pop();
		for (const line of lines) {
			const [, name, text] = /^(event|data): ?(.*)/s.exec(line) || [];
			if (name === "data") data.push(text);
			else if (name) event = text;
			else if (!line) {
				if (data.length) yield { event, data: data.join("\n") };
				event = "message";
				data = [];
			}
		}
	}
}

/** Find out what `keys` can do. Returns what is wrong with them, by their kind. */
export async function tryKeys(keys) {
	const node = await call("", { key: "" });
	const wrong = {};
	const can = { api: false, admin: false, keyless: !node.key_required };
	for (const [kind, other, path] of [["api", "admin", "v1/models"], ["admin", "api", "admin/keys"]]) {
		if (!keys[kind]) continue;
		try {
			await call(path, { key: keys[kind] });
			can[kind] = true;
		} catch (error) {
			if (error.code === "wrong_kind_of_key" && !keys[other]) {
				// It is right, and only in the other's field.
				Object.assign(keys, { [other]: keys[kind], [kind]: "" });
				can[other] = true;
			} else wrong[kind] = error.status === 404 ? "This node has no admin key: [api] admin_key sets it." : error.message;
		}
	}
	can.api ||= can.keyless;
	if (!can.api && !can.admin && !wrong.admin) wrong.api ??= "This node needs a key.";
	can.operate = can.admin || (can.keyless && !node.has_admin_key);
	return { can, wrong };
}
