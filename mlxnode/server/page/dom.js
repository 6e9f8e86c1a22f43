// Elements and numbers. Text is set as text: nothing here parses HTML.

export const $ = id => document.getElementById(id);
export const on = (id, kind, act) => $(id).addEventListener(kind, act);

/** An element: el("p.note", { title: "x", onclick: act }, "text", child). */
export function el(kind, attributes = {}, ...children) {
	const [tag, ...classes] = kind.split(".");
	const node = document.createElement(tag);
	if (classes.length) node.className = classes.join(" ");
	if (tag === "button") node.type = "button";
	setAll(node, attributes);
	node.append(...children.filter(child => child != null));
	return node;
}

export function setAll(node, attributes) {
	for (const [name, value] of Object.entries(attributes)) {
		if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
		else node.setAttribute(name, value);
	}
}

/** Set a text where it has changed: selections and screen readers stay where they are. */
export function setText(node, text) {
	if (node.textContent !== text) node.textContent = text;
}

/**
 * Make the children of `parent` those of `items`, by their keys. What stays keeps its element,
 * and with it the focus. `make` returns an element, `update(element, item)` fills it.
 */
export function reconcile(parent, items, keyOf, make, update) {
	const known = new Map([...parent.children].map(node => [node.dataset.key, node]));
	let place = parent.firstElementChild;
	for (const item of items) {
		const key = String(keyOf(item));
		let node = known.get(key);
		known.delete(key);
		if (!node) {
			node = make(item);
			node.dataset.key = key;
		}
		if (node === place) place = place.nextElementSibling;
		else parent.insertBefore(node, place);
		update(node, item);
	}
	for (const node of known.values()) node.remove();
}

/** The rows of a table: `cells(item)` are texts, `action(item)` is made once for a row. */
export function fillRows(body, items, keyOf, cells, action) {
	const make = item => el("tr", {},
		...cells(item).map((_, i) => (i ? el("td") : el("th", { scope: "row" }))),
		action && el("td", {}, action(item)));
	reconcile(body, items, keyOf, make, (row, item) =>
		cells(item).forEach((text, i) => setText(row.children[i], String(text ?? "–"))));
}

/** The cells of these fields. */
export const fields = names => item => names.map(name => (typeof item[name] === "number" ? count(item[name]) : item[name]));

/** A table in a region that scrolls by itself where the window is narrow. */
export function table(label, heads, id) {
	const row = el("tr", {}, ...heads.map(head => (head ? el("th", { scope: "col" }, head) : el("td"))));
	return scrolled(label, el("table", {}, el("thead", {}, row), el("tbody", { id })));
}

export function scrolled(label, child) {
	return el("div.scroll", { role: "region", "aria-label": label, tabindex: 0 }, child);
}

/** A small button; `name` tells it from others of its kind. */
export function button(label, name, act) {
	return el("button.small", { "aria-label": `${label} ${name}`, onclick: act }, label);
}

export function say(text) {
	$("say").textContent = "";
	// A text that is said twice has to change in between.
	setTimeout(() => ($("say").textContent = text), 50);
}

export function count(value, digits = 0) {
	return value == null ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits });
}

export function bytes(value) {
	if (value == null) return "–";
	const units = ["B", "KB", "MB", "GB", "TB"];
	const power = Math.min(4, Math.floor(Math.log10(value || 1) / 3));
	return `${count(value / 1000 ** power, power > 2 ? 1 : 0)} ${units[power]}`;
}

export function seconds(value) {
	if (value == null) return "–";
	if (value < 1) return `${count(value * 1000, value < 0.1 ? 1 : 0)} ms`;
	if (value < 120) return `${count(value, value < 10 ? 1 : 0)} s`;
	return value < 7200 ? `${count(value / 60)} min` : `${count(value / 3600, 1)} h`;
}

/** Copy a text, also over plain HTTP, which has no navigator.clipboard. */
export async function copyText(text, button) {
	let done = await navigator.clipboard?.writeText(text).then(() => true, () => false);
	if (!done) {
		const area = el("textarea.vh", { "aria-hidden": "true" });
		area.value = text;
		(button.closest("dialog") || document.body).append(area);
		area.select();
		done = document.execCommand("copy");
		area.remove();
		button.focus();
	}
	say((button.textContent = done ? "Copied" : "Not copied"));
	setTimeout(() => (button.textContent = "Copy"), 1500);
}
