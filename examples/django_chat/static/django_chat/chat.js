"use strict";

const room = JSON.parse(document.getElementById("room").textContent);
const lines = document.getElementById("lines");
const text = document.getElementById("text");
const scheme = location.protocol === "https:" ? "wss" : "ws";
const socket = new WebSocket(`${scheme}://${location.host}/ws/${room}/`);

function showState(state) {
  document.getElementById("state").textContent = state;
  document.getElementById("state").classList.toggle("open", socket.readyState === WebSocket.OPEN);
}

socket.onopen = () => showState("connected");
socket.onclose = (event) => showState(`closed with ${event.code}`);
socket.onmessage = (event) => {
  const said = JSON.parse(event.data);
  if (said.clear) {
    lines.replaceChildren();
    return;
  }
  const line = document.createElement("li");
  line.textContent = `${said.name}: ${said.text}`; // text, never HTML
  lines.append(line);
  lines.scrollTop = lines.scrollHeight;
};
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && text.value) {
    socket.send(text.value);
    text.value = "";
  }
});
