// How similar texts are: the cosine of their vectors, as numbers and as shades.

import { $, on, count, el, table } from "./dom.js";
import { call } from "./api.js";
import { guarded } from "./keys.js";

const MOST = 30; // texts

on("embed", "submit", event => {
	event.preventDefault();
	guarded("embed-wrong", compare);
});

async function compare() {
	const texts = $("texts").value.split("\n").filter(it => it.trim());
	if (texts.length < 2 || texts.length > MOST) throw new Error(`Type 2 to ${MOST} texts, one a line.`);
	if (!$("embed-model").value) throw new Error("There is no embedding model that this key can use.");
	const { data, usage } = await call("v1/embeddings", { body: { model: $("embed-model").value, input: texts } });
	const vectors = data.sort((a, b) => a.index - b.index).map(it => it.embedding);
	const rows = vectors.map((own, i) =>
		el("tr", {}, el("th", { scope: "row", dir: "auto" }, `${i + 1}. ${texts[i]}`), ...vectors.map(other => cell(cosine(own, other)))));
	const note = `Cosine: 1 is the same direction · ${count(vectors[0].length)} dimensions · ${count(usage.prompt_tokens)} tokens`;
	$("matrix").replaceChildren(table("Similarity", ["", ...texts.map((_, i) => i + 1)], "matrix-rows"), el("p.note", { role: "status" }, note));
	$("matrix-rows").append(...rows);
}

function cosine(a, b) {
	let dot = 0, x = 0, y = 0;
	for (let i = 0; i < a.length; i++) (dot += a[i] * b[i]), (x += a[i] * a[i]), (y += b[i] * b[i]);
	return dot / Math.sqrt(x * y);
}

function cell(value) {
	const node = el("td", {}, value.toFixed(2));
	node.style.setProperty("--shade", `${Math.round(Math.max(0, value) * 60)}%`);
	return node;
}
