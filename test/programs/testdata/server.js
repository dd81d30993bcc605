// A ledger over HTTP, with garbage, timers, promises and buffers on the side.
// Usage: server.js PORT
'use strict';
const http = require('http');
const crypto = require('crypto');

const slots = new Uint32Array(4096);
let n = 0;
const texts = new Map(); // the same slots again, as text on the garbage-collected heap
const noise = [];
let ticks = 0;
let resting = false;

function step() {
  n++;
  const slot = Math.imul(n, 2654435761) >>> 20;
  slots[slot] = (Math.imul(slots[slot], 31) + n) >>> 0;
  texts.set(slot, String(slots[slot]));
}

function digest() {
  let h = 2166136261 | 0;
  for (let i = 0; i < slots.length; i++) {
    if (slots[i] !== Number(texts.get(i) || 0)) throw new Error(`slot ${i}: ${slots[i]}, text ${texts.get(i)}`);
    h = Math.imul(h ^ slots[i], 16777619);
  }
  return h >>> 0;
}

setInterval(() => {
  if (resting) return;
  ticks++;
  noise.push(Buffer.alloc(20000, ticks & 255), { at: new Date(), text: 'x'.repeat(ticks % 1000) });
  if (noise.length > 400) noise.splice(0, 200);
  if (noise[0].length !== 20000 || noise[0][0] !== noise[0][19999]) throw new Error('noise changed');
}, 5);

setInterval(() => {
  if (resting) return;
  // Runs on the pool of threads.
  crypto.pbkdf2('secret', 'salt', 2000, 32, 'sha256', (err, key) => {
    if (err) throw err;
    if (key.toString('hex') !== crypto.pbkdf2Sync('secret', 'salt', 2000, 32, 'sha256').toString('hex')) throw new Error('pbkdf2');
  });
}, 50);

http.createServer(async (request, response) => {
  const url = new URL(request.url, 'http://localhost');
  if (url.pathname === '/state') {
    response.end(`${n} ${digest()}\n`);
    return;
  }
  resting = url.pathname === '/rest';
  if (resting) {
    response.end('resting\n');
    return;
  }
  const want = Number(url.searchParams.get('n'));
  await new Promise((resolve) => setImmediate(resolve));
  if (want !== n + 1) {
    response.statusCode = 409;
    response.end(`at ${n}, not before ${want}, after ${ticks} ticks\n`);
    return;
  }
  step();
  response.end(`${n}\n`);
}).listen(Number(process.argv[2]), '127.0.0.1');
