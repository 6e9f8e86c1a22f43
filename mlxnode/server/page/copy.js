// The request of the playground as a program: any text arrives as it is.

import { $, on } from "./dom.js";
import { access, root } from "./api.js";
import { code } from "./markdown.js";
import { request } from "./chat.js";

on("copy-open", "click", () => {
	show();
	$("copy").showModal();
});
on("copy-language", "change", show);
on("copy-close", "click", () => $("copy").close());

function show() {
	const language = $("copy-language").value;
	let shown;
	try {
		const { path, body } = request($("message").value || ($("log").childElementCount ? "" : "Hello!"));
		shown = code(writers[language](path, body), language);
	} catch (error) {
		shown = error.message;
	}
	$("copy-code").replaceChildren(shown);
}

const base = new URL("v1", root).href;
// In a shell, only ' ends a text in '.
const shell = text => `'${text.replaceAll("'", "'\\''")}'`;
/** JSON without characters that no one sees. */
const json = (value, indent) => JSON.stringify(value, null, indent).replace(/[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]/g, it => `\\u${it.charCodeAt(0).toString(16).padStart(4, "0")}`);

function python(value, indent) {
	const deeper = `${indent}    `;
	const lines = (parts, open, close) => (parts.length ? `${open}\n${parts.map(it => `${deeper}${it},\n`).join("")}${indent}${close}` : open + close);
	if (value === null) return "None";
	if (typeof value === "boolean") return value ? "True" : "False";
	if (Array.isArray(value)) return lines(value.map(it => python(it, deeper)), "[", "]");
	// A string of JSON is one of Python as well.
	if (typeof value !== "object") return json(value);
	return lines(Object.entries(value).map(([name, it]) => `${json(name)}: ${python(it, deeper)}`), "{", "}");
}

const call = path => (path === "completions" ? path : "chat.completions") + ".create";
const result = (path, body) => (path === "completions" ? "text" : body.tools ? "message" : "message.content");

const writers = {
	curl(path, body) {
		const key = access.keyless ? "" : '  -H "Authorization: Bearer $MLXNODE_API_KEY" \\\n';
		return `curl ${shell(`${base}/${path}`)} \\\n${key}  -H 'Content-Type: application/json' \\\n  -d ${shell(json(body, 2))}\n`;
	},
	python(path, body) {
		const fields = Object.entries(body).map(([name, value]) => `    ${name}=${python(value, "    ")},\n`);
		const key = access.keyless ? '"none"' : 'os.environ["MLXNODE_API_KEY"]';
		return `${access.keyless ? "" : "import os\n\n"}from openai import OpenAI\n\nclient = OpenAI(base_url=${json(base)}, api_key=${key})\nanswer = client.${call(path)}(\n${fields.join("")})\nprint(answer.choices[0].${result(path, body)})\n`;
	},
	javascript(path, body) {
		const key = access.keyless ? '"none"' : "process.env.MLXNODE_API_KEY";
		return `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: ${json(base)}, apiKey: ${key} });\nconst answer = await client.${call(path)}(${json(body, 2)});\nconsole.log(answer.choices[0].${result(path, body)});\n`;
	},
};
