// The batches of the API key: how far they are, their results, and an end to them.

import { $, count, el, fillRows, say, table } from "./dom.js";
import { access, call, send } from "./api.js";
import { refused } from "./keys.js";

const OPEN = ["validating", "in_progress", "finalizing"];

export function startBatches() {
  $("batches").append(table("Batches", ["Batch", "Endpoint", "Status", "Done", "Failed", "Created", ""], "batch-rows"));
  $("batches-again").addEventListener("click", showBatches);
}

export async function showBatches() {
  if (!access.chat) return;
  await guarded(async () => {
    const { data } = await call("v1/batches?limit=100");
    const cells = (one) => [one.id, one.endpoint, one.status, `${count(one.request_counts?.completed)} of ${count(one.request_counts?.total)}`, count(one.request_counts?.failed), new Date(one.created_at * 1000).toLocaleString()];
    // What can be done with a batch depends on its status: a row is made anew with it.
    fillRows($("batch-rows"), data, (one) => `${one.id} ${one.status}`, cells, actions);
    if (!data.length) say("There are no batches.");
  });
}

function actions({ id, status, output_file_id: output, error_file_id: errors }) {
  const button = (label, act) => el("button.small", { type: "button", "aria-label": `${label} ${id}`, onclick: () => guarded(act) }, label);
  return el("div.row", {},
    OPEN.includes(status) ? button("Cancel", () => call(`v1/batches/${id}/cancel`, { method: "POST" }).then(showBatches)) : null,
    output ? button("Results", () => download(output)) : null,
    errors ? button("Errors", () => download(errors)) : null);
}

async function download(id) {
  const blob = await (await send(`v1/files/${id}/content`, { accept: "*/*" })).blob();
  const link = el("a", { href: URL.createObjectURL(blob), download: `${id}.jsonl` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function guarded(act) {
  $("batches-wrong").textContent = "";
  try {
    await act();
  } catch (error) {
    $("batches-wrong").textContent = error.status === 404 ? "This node has no batches." : error.message;
    refused(error);
  }
}
