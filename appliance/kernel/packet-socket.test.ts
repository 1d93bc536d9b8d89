import { readdirSync } from 'node:fs';

import { test } from 'tap';

import { openPacketSocket } from './packet-socket.ts';

const isRoot = process.getuid?.() === 0;
const asRoot = isRoot ? {} : { skip: 'needs root, for packet sockets' };
const RETURN = 0x06;
const everything = [{ code: RETURN, jt: 0, jf: 0, k: 0xffff }];

// On loopback each frame goes out and comes in again.
test('a frame is heard as it comes in, and not as it goes out', asRoot, async (t) => {
  const [sender, hearer] = [openPacketSocket('lo', everything), openPacketSocket('lo', everything)];
  t.teardown(() => [sender, hearer].forEach((socket) => socket.close()));
  const mine = marked(1);
  sender.send(mine);
  const heard: Buffer[] = [];
  for (let next = hearer.receive(); next !== undefined; next = hearer.receive()) heard.push(next);
  t.equal(heard.filter((frame) => frame.equals(mine)).length, 1);
});

test('what the filter drops is not heard', asRoot, async (t) => {
  const deaf = openPacketSocket('lo', [{ code: RETURN, jt: 0, jf: 0, k: 0 }]);
  t.teardown(() => deaf.close());
  deaf.send(marked(2));
  t.equal(deaf.receive(), undefined);
});

test('a device that is not there and a filter that is none are errors, and leak no descriptor', asRoot, async (t) => {
  const before = readdirSync('/proc/self/fd').length;
  t.throws(() => openPacketSocket('no-such-nic', everything), { code: 'config.invalid', message: /no-such-nic/ });
  t.throws(() => openPacketSocket('lo', [{ code: 999, jt: 0, jf: 0, k: 0 }]), { code: 'config.invalid' });
  t.equal(readdirSync('/proc/self/fd').length, before);
});

// No IP packet: the kernel takes it for a damaged one.
function marked(mark: number): Buffer {
  const frame = Buffer.alloc(60, mark);
  frame.writeUInt16BE(0x0800, 12);
  return frame;
}
