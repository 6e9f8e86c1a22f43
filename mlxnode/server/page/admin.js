// The keys that the node accepts, and what each has used.

import { $, on, el, fields, fillRows, table } from "./dom.js";
import { access, call } from "./api.js";
import { guarded } from "./keys.js";

const day = back => new Date(Date.now() - back * 864e5).toISOString().slice(0, 10);

$("key-table").append(table("Keys", ["Key", "Kind", "Models"], "known-keys"));
$("from").value = day(29);
$("to").value = day(0);
on("usage", "submit", event => {
	event.preventDefault();
	showAdmin();
});

export async function showAdmin() {
	if (!access.admin) return;
	await guarded("admin-wrong", async () => {
		const keys = await call("admin/keys", { as: "admin" });
		const models = it => (it.is_admin ? "–" : it.models?.join(", ") ?? "all");
		fillRows($("known-keys"), keys.data, it => `${it.id} ${it.is_admin}`, it => [it.id, it.is_admin ? "admin key" : "API key", models(it)]);
		const asked = new URLSearchParams({ from: $("from").value, to: $("to").value });
		if ($("by").value) asked.set("by", $("by").value);
		showUsage((await call(`admin/usage?${asked}`, { as: "admin" })).data);
	});
}

function showUsage(rows) {
	if (!rows.length) return $("usage-table").replaceChildren(el("p.note", {}, "Nothing was used on these days."));
	const names = Object.keys(rows[0]);
	$("usage-table").replaceChildren(table("Usage", names.map(name => name.replaceAll("_", " ")), "usage-rows"));
	fillRows($("usage-rows"), rows, JSON.stringify, fields(names));
}
