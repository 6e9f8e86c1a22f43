// What models write, as elements. Nothing of it becomes markup or a request: HTML stays text,
// an image is named instead of fetched, a link is http(s) and shows where to.

import { copyText, el, scrolled } from "./dom.js";

const LONG = 20000; // characters of a paragraph above which it is plain text
const DEEP = 6; // lists and quotes in each other
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`\s]{0,40})[^`]*$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?: +|$)/;
const RULE = /^ {0,3}([-*_])(?: *\1){2,} *$/;
const SEPARATOR = /^ {0,3}\|? *:?-+:? *(?:\| *:?-+:? *)*\|? *$/;
// Lengths are bounded, so that a text cannot make the search slow.
const INLINE = new RegExp(
	[
		"(?<ticks>`{1,8})(?!`)(?<code>[^\\n]{1,2000}?)(?<!`)\\k<ticks>(?!`)",
		"(?<bang>!?)\\[(?<label>[^\\[\\]\\n]{0,500})\\]\\((?<target>[^\\s()]{0,2000})(?: +\"[^\"\\n]{0,200}\")?\\)",
		"(?<strong>\\*\\*|__)(?=\\S)(?<bold>[^\\n]{0,1000}?\\S)\\k<strong>",
		"(?<![\\w*])(?<mark>[*_])(?=[^\\s*_])(?<italic>[^\\n*_]{0,1000}?[^\\s*_])\\k<mark>(?![\\w*])",
		"\\\\(?<plain>[!-/:-@[-`{-~])",
		"(?<url>https?://[^\\s<>()\\[\\]\"'`]{1,1000}[^\\s<>()\\[\\]\"'`.,;:!?*_])",
	].join("|"), "g");

/** Signs in place of characters that no one sees, or that reverse the rest. */
export function visible(text) {
	return text.replace(/[\0-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]/g, it => {
		const code = it.charCodeAt(0);
		if (code === 13) return "";
		return code < 32 ? String.fromCharCode(0x2400 + code) : `[U+${code.toString(16)}]`;
	});
}

/** Show `text` in `parent`; the blocks that are shown already stay as they are. */
export function showMarkdown(parent, text) {
	const found = blocks(visible(text).split("\n"));
	found.forEach((block, i) => {
		const source = `${block.kind}\n${block.lines.join("\n")}`;
		const old = parent.children[i];
		if (old && old.source === source) return;
		const node = element(block, 0);
		node.source = source;
		if (old) old.replaceWith(node);
		else parent.append(node);
	});
	while (parent.children.length > found.length) parent.lastElementChild.remove();
}

function blocks(lines) {
	const found = [];
	for (let i = 0; i < lines.length; ) {
		const start = i;
		const line = lines[i];
		const fence = FENCE.exec(line);
		if (fence) {
			const end = new RegExp(`^ {0,3}${fence[1][0]}{${fence[1].length},} *$`);
			for (i++; i < lines.length && !end.test(lines[i]); i++);
			found.push({ kind: "code", language: fence[2], lines: lines.slice(start + 1, i++) });
		} else if (!line.trim()) i++;
		else if (/^ {0,3}#{1,6}(?: |$)/.test(line)) found.push({ kind: "heading", lines: [lines[i++]] });
		else if (RULE.test(line)) found.push({ kind: "rule", lines: [lines[i++]] });
		else if (/^ {0,3}>/.test(line)) {
			while (i < lines.length && /^ {0,3}>/.test(lines[i])) i++;
			found.push({ kind: "quote", lines: lines.slice(start, i).map(it => it.replace(/^ {0,3}> ?/, "")) });
		} else if (ITEM.test(line)) {
			for (i++; i < lines.length && inList(lines, i); i++);
			found.push({ kind: /\d/.test(ITEM.exec(line)[2]) ? "ol" : "ul", lines: lines.slice(start, i) });
		} else if (line.includes("|") && i + 1 < lines.length && SEPARATOR.test(lines[i + 1])) {
			for (i += 2; i < lines.length && lines[i].includes("|"); i++);
			found.push({ kind: "table", lines: lines.slice(start, i) });
		} else {
			for (i++; i < lines.length && lines[i].trim() && !begins(lines[i]); i++);
			found.push({ kind: "text", lines: lines.slice(start, i) });
		}
	}
	return found;
}

function begins(line) {
	return FENCE.test(line) || RULE.test(line) || /^ {0,3}(?:#{1,6} |>)/.test(line) || ITEM.test(line);
}

/** True if the line `i` is of the list before it. */
function inList(lines, i) {
	const line = lines[i];
	if (ITEM.test(line) && !RULE.test(line)) return true;
	if (!line.trim()) return i + 1 < lines.length && (/^ {2,}\S/.test(lines[i + 1]) || ITEM.test(lines[i + 1]));
	return /^ {2,}/.test(line) || (Boolean(lines[i - 1].trim()) && !begins(line));
}

function element(block, depth) {
	const { kind, lines } = block;
	if (kind === "code") return code(lines.join("\n"), block.language);
	if (kind === "rule") return el("hr");
	if (kind === "heading") {
		// One level for all: a model skips levels.
		return inline(el("h4", { dir: "auto" }), lines[0].replace(/^ *#+ *|[ #]*$/g, ""));
	}
	if (kind === "text" || depth >= DEEP) return inline(el("p", { dir: "auto" }), lines.join("\n"));
	if (kind === "quote") return el("blockquote", {}, ...blocks(lines).map(it => element(it, depth + 1)));
	if (kind === "table") return tableOf(lines);
	return list(kind, lines, depth);
}

function list(kind, lines, depth) {
	const items = [];
	let width = 0;
	for (const line of lines) {
		const item = ITEM.exec(line);
		if (item && (!items.length || item[1].length < width)) {
			width = Math.min(item[0].length, item[1].length + 5);
			items.push([line.slice(item[0].length)]);
		} else items.at(-1).push(line.replace(new RegExp(`^ {0,${width}}`), ""));
	}
	const made = items.map(own => el("li", {}, ...blocks(own).map((it, i) =>
		// A paragraph at the beginning has no space around it.
		i === 0 && it.kind === "text" ? inline(el("span", { dir: "auto" }), it.lines.join("\n")) : element(it, depth + 1))));
	const start = kind === "ol" ? parseInt(ITEM.exec(lines[0])[2], 10) : 1;
	return el(kind, start === 1 ? {} : { start }, ...made);
}

function tableOf(lines) {
	const split = line => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).slice(0, 50);
	const [head, , ...rows] = lines.map(split);
	const row = (cells, tag) => el("tr", {}, ...head.map((_, i) => inline(el(tag, { dir: "auto" }), (cells[i] || "").trim())));
	const whole = el("table", {}, el("thead", {}, row(head, "th")), el("tbody", {}, ...rows.map(it => row(it, "td"))));
	return scrolled("Table", whole);
}

/** Code with the name of its language and a button that copies it. */
export function code(text, language) {
	const name = language || "text";
	const onclick = ({ target }) => copyText(text, target);
	const button = el("button.small", { "aria-label": `Copy the ${name} code`, onclick }, "Copy");
	return el("div.code", {}, el("div.bar", {}, el("span", {}, name), button),
		el("pre", { dir: "ltr", tabindex: 0, role: "region", "aria-label": `${name} code` }, el("code", {}, text)));
}

function inline(parent, text, depth = 0) {
	if (text.length > LONG || depth > DEEP) {
		parent.append(text);
		return parent;
	}
	let end = 0;
	for (const { 0: whole, index, groups: g } of text.matchAll(INLINE)) {
		parent.append(text.slice(end, index), piece(whole, g, depth));
		end = index + whole.length;
	}
	parent.append(text.slice(end));
	return parent;
}

function piece(whole, g, depth) {
	if (g.code) return el("code", {}, g.code.trim() || g.code);
	if (g.bang) return el("span.note", {}, `[image not shown: ${g.label || "without a text"}]`);
	if (g.label !== undefined) return link(g.label, g.target);
	if (g.strong) return inline(el("strong"), g.bold, depth + 1);
	if (g.mark) return inline(el("em"), g.italic, depth + 1);
	return g.plain ?? link(g.url, g.url);
}

function link(label, target) {
	if (!/^https?:\/\//i.test(target)) return `${label} (${target})`;
	const anchor = el("a", { href: target, target: "_blank", rel: "noopener noreferrer" }, label || target);
	return !label || label === target ? anchor : el("span", {}, anchor, ` (${target})`);
}
