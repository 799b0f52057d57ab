/** What the pages of the examples have in common. */
import { connect } from "/syncws.js";

export const $ = (id) => document.getElementById(id);

/** A colour that is always the same for the same text. */
export function hue(text) {
  let sum = 0;
  for (const char of text) sum = (sum * 31 + char.codePointAt(0)) % 360;
  return sum;
}

/** Say in the element `state` how the connection is. */
export function state(open, text) {
  $("state").className = open ? "state open" : "state";
  $("state").textContent = text;
}

/** Connect, give each message to the function of its type, and say how the connection is. */
export function connected(url, show) {
  const socket = connect(url, { most: 10_000 });
  socket.addEventListener("open", () => state(true, "connected"));
  socket.addEventListener("message", (event) => {
    const message = JSON.parse(event.data);
    show[message.type](message);
  });
  socket.addEventListener("close", ({ detail: end }) => {
    state(false, end.final ? `closed: ${end.reason || end.code}` : "reconnecting…");
  });
  return socket;
}

/** Add an item to a list that shows its end, unless the reader has scrolled up. */
export function append(list, item, most = 500) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  list.append(item);
  while (list.children.length > most) list.firstChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

/** Something that was said, or a note without a name. */
export function line(text, by, me) {
  const item = document.createElement("li");
  item.className = by === undefined ? "note" : by === me ? "say mine" : "say";
  if (by !== undefined && by !== me) {
    const name = document.createElement("b");
    name.textContent = by;
    name.style.color = `hsl(${hue(by)} 65% 55%)`;
    item.append(name);
  }
  item.append(text);
  return item;
}
