// A request to the basic endpoint from Node 22 or later, without a package: node node.mjs [URL]
import { writeFile } from 'node:fs/promises';

const url = process.argv[2] ?? 'ws://localhost:8765';
const socket = new WebSocket(url);
socket.binaryType = 'arraybuffer';

socket.onopen = () => socket.send(JSON.stringify({ text: 'Hello from Node.', speaker: 1 }));
socket.onerror = () => console.error(`cannot reach ${url}`);
socket.onmessage = async ({ data }) => {
  if (typeof data === 'string') {
    const { status, message } = JSON.parse(data);
    console.log(`${status}: ${message}`); // loading, success or error
    if (status === 'error') socket.close();
    return;
  }
  await writeFile('hello.wav', Buffer.from(data));
  console.log(`hello.wav: ${data.byteLength} bytes`);
  socket.close();
};
