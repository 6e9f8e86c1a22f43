// The stream of the figures: one connection while the page is seen.

import { $, setText } from "./dom.js";
import { access, events, send } from "./api.js";
import { onAccess, refused } from "./keys.js";

const SILENCE = 15000; // milliseconds; the node sends figures each second
const bus = new EventTarget();
let stream = null; // the AbortController of the connection
let timer = null; // until the next try, or until a silent connection counts as lost
let pause = 1; // seconds until the next try

/** Call `show(figures)` with each figures of the node. */
export function onFigures(show) {
	bus.addEventListener("figures", ({ detail }) => show(detail));
}

onAccess(again);
document.addEventListener("visibilitychange", again);

function close() {
	stream?.abort();
	stream = null;
	clearTimeout(timer);
}

function again() {
	close();
	pause = 1;
	if (document.hidden) return;
	if (access.api || access.admin) connect();
	else mark("no key");
}

function mark(text, isLive = false) {
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
			clearTimeout(timer);
			timer = setTimeout(() => own.abort(), SILENCE);
			mark(figures.is_draining ? "shutting down" : "live", !figures.is_draining);
			pause = 1;
			bus.dispatchEvent(new CustomEvent("figures", { detail: figures }));
		}
	} catch (error) {
		if (stream === own) refused(error);
		// With another key the stream begins anew.
		if (stream === own && error.status === 401) return mark("key refused");
	}
	if (stream !== own) return;
	own.abort(); // what is read no further
	mark("disconnected");
	clearTimeout(timer);
	timer = setTimeout(connect, pause * 1000);
	pause = Math.min(15, pause * 2);
}
