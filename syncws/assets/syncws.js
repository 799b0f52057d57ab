/**
 * A WebSocket that stays connected. No dependencies; syncws.d.ts has the types.
 *
 *     import { connect } from "/syncws/syncws.js";
 *     const socket = connect("/chat");
 *     socket.addEventListener("message", (event) => show(JSON.parse(event.data)));
 *     if (!socket.send("hello")) alert("not connected");
 */

/** Close codes after which the next connection would end the same way; see isFinal(). */
const FINAL = new Set([1008, 1010, 3000, 3003]);
/** Close codes of a server that has too much to do. */
const BUSY = new Set([1013, 4429]);

/** Milliseconds that a timer can wait, about 25 days. A longer one would fire at once. */
const LONGEST = 2 ** 31 - 1;

/** Whether a close code says that the next connection would end the same way. */
export function isFinal(code) {
  // 4400 to 4499: refuse="close" sends the HTTP status of a refusal so.
  if (code >= 4400 && code <= 4499) return code !== 4408 && code !== 4429;
  return FINAL.has(code);
}

/** Open a connection, and open it again whenever it has ended. */
export function connect(url, options) {
  return new ReconnectingSocket(url, options);
}

/** Events: "open", "message" (event.data), "wait" and "close" (event.detail). */
export class ReconnectingSocket extends EventTarget {
  #url;
  #options;
  #socket = null;
  #timer = null;
  #attempts = 0;
  #openedAt = 0;
  #lastLimit = 0;
  #busy = false;
  #ended = false;
  /** The id of the last message, sent as ?after= when the connection is opened again. */
  lastId = null;

  constructor(url, options = {}) {
    super();
    this.#url = url;
    this.#options = {
      protocols: [], first: 500, most: 60_000, after: "after", id: idOf, ...options,
    };
    addEventListener("online", this.#online);
    addEventListener("pagehide", this.#hide);
    addEventListener("pageshow", this.#show);
    this.#open();
  }

  /** "connecting", "open", "waiting", "closing" or "closed". */
  get state() {
    if (this.#socket === null) return this.#ended ? "closed" : "waiting";
    return ["connecting", "open", "closing", "closed"][this.#socket.readyState];
  }

  /** Send a message. Returns false, and sends and keeps nothing, unless the state is "open". */
  send(data) {
    if (this.state !== "open") return false;
    this.#socket.send(data);
    return true;
  }

  /** Close the connection, and open no other. */
  close(code = 1000, reason = "") {
    if (this.#ended) return;
    if (this.#socket !== null) this.#socket.close(code, reason); // raises for an invalid code
    this.#end();
    if (this.#socket === null) this.#tell("close", { code, reason, final: true });
  }

  #open() {
    clearTimeout(this.#timer);
    this.#timer = null;
    let socket;
    try {
      socket = this.#connect();
    } catch (error) { // such as a URL that is none, or one that the page's function has not got
      this.#end();
      this.#tell("close", { code: 1006, reason: String(error), final: true });
      throw error;
    }
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#openedAt = performance.now();
      this.#tell("open", {});
    };
    socket.onmessage = (event) => {
      const id = this.#options.id(event.data);
      this.dispatchEvent(new MessageEvent("message", { data: event.data }));
      if (id !== null && id !== undefined) this.lastId = String(id); // it has been shown
    };
    socket.onclose = (event) => this.#closed(event.code, event.reason);
  }

  #connect() {
    const given = typeof this.#url === "function" ? this.#url() : this.#url;
    const url = new URL(given, globalThis.location?.href);
    url.protocol = url.protocol.replace(/^http/, "ws");
    if (this.#options.after && this.lastId !== null) {
      url.searchParams.set(this.#options.after, this.lastId);
    }
    return new WebSocket(url, this.#options.protocols);
  }

  #closed(code, reason) {
    this.#socket = null;
    // A connection that lasted longer than the wait before it was worth having.
    const lasted = this.#openedAt ? performance.now() - this.#openedAt : 0;
    if (lasted > this.#lastLimit) this.#attempts = 0;
    this.#openedAt = 0;
    if (this.#ended || isFinal(code)) {
      this.#end();
      this.#tell("close", { code, reason, final: true });
      return;
    }
    this.#tell("close", { code, reason, final: false });
    if (!this.#ended && this.#socket === null) this.#wait(BUSY.has(code));
  }

  /** Wait at random, so that pages do not come back all at once. */
  #wait(busy) {
    const { first, most } = this.#options;
    const limit = busy ? most : Math.min(most, first * 2 ** Math.min(this.#attempts, 64));
    this.#attempts += 1;
    this.#lastLimit = limit;
    this.#busy = busy;
    const chosen = busy ? limit * (0.5 + Math.random() / 2) : limit * Math.random();
    const wait = Math.min(chosen, LONGEST);
    this.#timer = setTimeout(() => this.#open(), wait);
    this.#tell("wait", { milliseconds: wait, busy });
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #end() {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#timer = null;
    removeEventListener("online", this.#online);
    removeEventListener("pagehide", this.#hide);
    removeEventListener("pageshow", this.#show);
  }

  // The network is back: a wait has no reason any more, unless the server asked for it.
  #online = () => {
    if (this.#timer !== null && !this.#busy) this.#open();
  };

  // A page that is left behind, even one kept for the back button, is not connected.
  #hide = () => {
    clearTimeout(this.#timer);
    this.#timer = null;
    const socket = this.#socket;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000, "left");
    this.#socket = null;
    this.#tell("close", { code: 1000, reason: "left", final: false });
  };

  #show = (event) => {
    if (event.persisted && !this.#ended && this.#socket === null) this.#open();
  };
}

/** The id of a message of a room with a history: "id" of a JSON object. */
function idOf(data) {
  if (typeof data !== "string" || !data.startsWith("{")) return null;
  try {
    return JSON.parse(data).id ?? null;
  } catch {
    return null;
  }
}
