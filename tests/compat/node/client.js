// Socket.IO's own client. The arguments are the server's URL and the transports, separated by commas.
// Each line of the output says what has happened.
const { io } = require("socket.io-client");

const [url, transports] = process.argv.slice(2);
const socket = io(url, { transports: transports.split(","), reconnection: false });

function leave(line) {
  console.log(line);
  socket.close();
}

// From polling to WebSocket, if it begins with polling.
function onWebSocket() {
  const engine = socket.io.engine;
  if (engine.transport.name === "websocket") return Promise.resolve();
  return new Promise((resolve) => engine.once("upgrade", resolve));
}

socket.on("connect", async () => {
  await onWebSocket();
  console.log(`transport ${socket.io.engine.transport.name}`);
  socket.emit("say", { text: "hello", bytes: Buffer.from([0, 255]) }, (answer) => {
    console.log(`answer ${answer.text} ${[...answer.bytes]}`);
    console.log("waiting for news");
  });
});
socket.on("heard", (message) => console.log(`heard ${message.text}`));
socket.on("news", (text) => leave(`news ${text}`));
socket.on("connect_error", (error) => leave(`connect_error ${error.message}`));
