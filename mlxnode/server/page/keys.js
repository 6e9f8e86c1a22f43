// The dialog of the keys: in the session storage of this tab, and in no URL.

import { $, on, say } from "./dom.js";
import { access, keyOf, setKey, tryKeys } from "./api.js";

const changed = new EventTarget();

/** Call `act` whenever the keys have changed. */
export function onAccess(act) {
	changed.addEventListener("change", act);
}

export function startKeys() {
	on("keys-open", "click", () => open());
	on("keys-close", "click", () => $("keys").close());
	on("keys-forget", "click", forget);
	on("keys-form", "submit", event => {
		event.preventDefault();
		enter();
	});
	check();
}

async function check() {
	try {
		const { can, wrong } = await tryKeys({ api: keyOf("api"), admin: keyOf("admin") });
		apply(can);
		if (wrong.api || wrong.admin) open(wrong);
	} catch (error) {
		apply({ api: false, admin: false, operate: false, keyless: false });
		$("keys-state").textContent = error.message;
		setTimeout(check, 3000); // the page may be there before the node is
	}
}

/** Ask for a key if that is why `error` came. */
export function refused(error) {
	if (error.status === 401) open({ [error.kind]: error.message });
}

/** Do `act`, and say in the alert `id` what went wrong. True if nothing did. */
export async function guarded(id, act) {
	$(id).textContent = "";
	try {
		await act();
		return true;
	} catch (error) {
		$(id).textContent = error.message;
		refused(error);
	}
}

function open(wrong = {}) {
	show(wrong);
	if ($("keys").open) return;
	$("key-api").value = keyOf("api");
	$("key-admin").value = keyOf("admin");
	$("keys").showModal();
	$(wrong.admin && !wrong.api ? "key-admin" : "key-api").focus();
}

function show(wrong) {
	for (const kind of ["api", "admin"]) {
		$(`key-${kind}-wrong`).textContent = wrong[kind] || "";
		$(`key-${kind}`).setAttribute("aria-invalid", Boolean(wrong[kind]));
	}
}

async function enter() {
	const keys = { api: $("key-api").value.trim(), admin: $("key-admin").value.trim() };
	show({});
	try {
		const { can, wrong } = await tryKeys(keys);
		if (wrong.api || wrong.admin) {
			show(wrong);
			return $(wrong.api ? "key-api" : "key-admin").focus();
		}
		setKey("api", keys.api);
		setKey("admin", keys.admin);
		apply(can);
		$("keys").close();
		say("The keys are right.");
	} catch (error) {
		show({ api: error.message });
	}
}

async function forget() {
	setKey("api", "");
	setKey("admin", "");
	$("keys").close();
	await check();
	say("The keys are forgotten.");
}

function apply(can) {
	Object.assign(access, can);
	const kinds = [keyOf("api") && "API key", keyOf("admin") && "admin key"].filter(Boolean);
	$("keys-state").textContent = kinds.join(" and ") || (access.keyless ? "no key needed" : "no key");
	changed.dispatchEvent(new Event("change"));
}
