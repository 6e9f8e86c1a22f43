// The batches of the API key.

import { $, on, button, count, el, fillRows, setText, table } from "./dom.js";
import { access, call, send } from "./api.js";
import { guarded } from "./keys.js";

const OPEN = ["validating", "in_progress", "finalizing"];

$("batches").append(table("Batches", ["Batch", "Endpoint", "Status", "Done", "Failed", "Created", ""], "batch-rows"));
on("batches-again", "click", showBatches);
let timer = null;

export async function showBatches() {
	clearTimeout(timer);
	if (!access.api || $("batches").hidden) return;
	await guarded("batches-wrong", async () => {
		const { data } = await call("v1/batches?limit=100");
		const cells = it => [it.id, it.endpoint, it.status, `${count(it.request_counts.completed)} of ${count(it.request_counts.total)}`, count(it.request_counts.failed), new Date(it.created_at * 1000).toLocaleString()];
		// What can be done with a batch depends on its status: a row is made anew with it.
		fillRows($("batch-rows"), data, it => `${it.id} ${it.status}`, cells, actions);
		setText($("batches-note"), data.length ? "" : "None. Programs create them with POST /v1/batches.");
		if (data.some(it => [...OPEN, "cancelling"].includes(it.status))) timer = setTimeout(showBatches, document.hidden ? 30000 : 3000);
	});
}

function actions({ id, status, output_file_id: output, error_file_id: errors }) {
	const made = (label, act) => button(label, id, () => guarded("batches-wrong", act));
	return el("div.row", {},
		OPEN.includes(status) ? made("Cancel", () => call(`v1/batches/${id}/cancel`, { body: {} }).then(showBatches)) : null,
		output ? made("Results", () => download(output)) : null,
		errors ? made("Errors", () => download(errors)) : null);
}

async function download(id) {
	const blob = await (await send(`v1/files/${id}/content`, { accept: "*/*" })).blob();
	const link = el("a", { href: URL.createObjectURL(blob), download: `${id}.jsonl` });
	link.click();
	setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
