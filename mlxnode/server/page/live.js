// The stream of the figures: one connection while the page is seen.

import { $, setText } from "./dom.js";
import { access, events, send } from "./api.js";
import { onAccess, refused } from "./keys.js";

const bus = new EventTarget();
let stream = null; // the AbortController of the connection
let timer = null;
let pause = 1; // seconds until the next try

/** Call `show(figures)` with each figures of the node. */
export function onFigures(show) {
	bus.addEventListener("figures", ({ detail }) => show(detail));
}

onAccess(again);
document.addEventListener("visibilitychange", () => (document.hidden ? close() : again()));

function close() {
	stream?.abort();
	clearTimeout(timer);
}

function again() {
	close();
	pause = 1;
	if (access.chat || access.admin) connect();
	else mark("no key", false);
}

function mark(text, isLive) {
	setText($("link"), text);
	$("link").classList.toggle("is-live", isLive);
}

async function connect() {
	const own = (stream = new AbortController());
	try {
		const options = { as: "any", signal: own.signal, accept: "text/event-stream" };
		for await (const { event, data } of events(await send("v1/figures", options))) {
			const figures = JSON.parse(data);
			if (event === "error") throw new Error(figures.error?.message);
			mark(figures.is_draining ? "shutting down" : "live", !figures.is_draining);
			pause = 1;
			bus.dispatchEvent(new CustomEvent("figures", { detail: figures }));
		}
	} catch (error) {
		refused(error);
	}
	if (own.signal.aborted) return;
	mark("disconnected", false);
	timer = setTimeout(connect, pause * 1000);
	pause = Math.min(15, pause * 2);
}
