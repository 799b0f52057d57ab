/** The options of connect(). */
export interface Options {
  /** Subprotocols to offer, the best first. */
  protocols?: string | string[];
  /** Milliseconds of the first wait at most (500). Each further wait is at most twice as long. */
  first?: number;
  /** Milliseconds of every wait at most (60000). */
  most?: number;
  /** The query parameter that carries the last id when a connection is opened again ("after"); null for none. */
  after?: string | null;
  /** Returns the id of a message, or null. By default "id" of a JSON object. */
  id?: (data: string | ArrayBuffer) => string | null | undefined;
}

/** The detail of a "close" event. */
export interface Closed {
  code: number;
  reason: string;
  /** Whether no other connection will be opened. */
  final: boolean;
}

/** The detail of a "wait" event. */
export interface Waiting {
  milliseconds: number;
  /** Whether the server has too much to do (1013, 4429). */
  busy: boolean;
}

interface Events {
  open: CustomEvent<Record<string, never>>;
  message: MessageEvent<string | ArrayBuffer>;
  close: CustomEvent<Closed>;
  wait: CustomEvent<Waiting>;
}

/** A WebSocket that stays connected. */
export class ReconnectingSocket extends EventTarget {
  /** The URL may be relative, http(s): or ws(s):, or a function that is asked for each connection. */
  constructor(url: string | URL | (() => string | URL), options?: Options);
  /** The id of the last message, or null. */
  lastId: string | null;
  readonly state: "connecting" | "open" | "waiting" | "closing" | "closed";
  /** Send a message. Returns false, and keeps nothing, unless the state is "open". */
  send(data: string | ArrayBufferLike | Blob | ArrayBufferView): boolean;
  /** Close the connection, and open no other. */
  close(code?: number, reason?: string): void;
  addEventListener<Name extends keyof Events>(
    name: Name,
    listener: (event: Events[Name]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    name: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** Open a connection, and open it again whenever it has ended. */
export function connect(
  url: string | URL | (() => string | URL),
  options?: Options,
): ReconnectingSocket;

/** Whether a close code says that the next connection would end the same way. */
export function isFinal(code: number): boolean;
