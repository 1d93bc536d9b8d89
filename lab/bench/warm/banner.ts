/**
 * `node banner.ts ADDRESS`: prints what the SSH server there says first, as soon as there is one, and ends. It is a program of its
 * own because it runs inside the rack's network.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

const LOOK_EVERY_MS = 20;
/** A SYN that is lost is sent again after a second, which is long to wait for a system that comes up. */
const CONNECT_MS = 200;
const GREET_MS = 20_000;

const [address = ''] = process.argv.slice(2);
console.log(`looking at ${address}`);
let banner = '';
while (!banner.startsWith('SSH-')) {
  banner = await greeting().catch(() => '');
  await pause(LOOK_EVERY_MS);
}
console.log(banner.trim());

async function greeting(): Promise<string> {
  const socket = connect({ host: address, port: 22 });
  socket.once('error', () => undefined);
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECT_MS) });
    const [said] = (await once(socket, 'data', { signal: AbortSignal.timeout(GREET_MS) })) as [Buffer];
    return said.toString('latin1');
  } finally {
    socket.destroy();
  }
}
