// Node.js: objects, strings, maps and buffers, and JSON both ways. Prints what it computed.
'use strict';

let seed = 1;
const below = (end) => {
  seed = (seed * 16807) % 2147483647;
  return seed % end;
};
const word = (longest) => {
  let text = '';
  for (let n = 2 + below(longest); n > 0; n--) text += String.fromCharCode(97 + below(26));
  return text;
};

const cache = new Map();
let bytes = 0;
for (let id = 0; id < 6000; id++) {
  const order = { id, customer: word(24), lines: [], tags: {} };
  for (let n = below(12); n >= 0; n--) {
    order.lines.push({ article: word(14), count: 1 + below(9), cents: below(100000) });
  }
  for (let n = below(6); n > 0; n--) order.tags[word(8)] = word(16);
  const copy = JSON.parse(JSON.stringify(order));
  copy.lines.sort((a, b) => (a.article < b.article ? -1 : 1));
  const buffer = Buffer.from(JSON.stringify(copy, null, 1));
  bytes += buffer.length;
  cache.set(id % 1500, buffer);
}
const crypto = require('crypto');
const hash = crypto.createHash('sha256');
for (const buffer of cache.values()) hash.update(buffer);
console.log(bytes, hash.digest('hex'));
