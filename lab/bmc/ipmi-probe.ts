import { createSocket } from 'node:dgram';

const EVERY_MS = 20;
const PATIENCE_MS = 10_000;

/**
 * Resolves to true as soon as a BMC answers, to false when it `ended` or after ten seconds. Asks what every IPMI client asks first, Get
 * Channel Authentication Capabilities (IPMI 2.0 §22.13), in the sessionless IPMI 1.5 wrapper every BMC understands
 * (§13.6): that a socket is bound may mean that a BMC is still starting.
 */
export async function bmcAnswers(address: string, port: number, ended?: Promise<void>): Promise<boolean> {
  const socket = createSocket('udp4');
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const ask = () => socket.send(Buffer.from(rmcp + session + request, 'hex'), port, address, () => undefined);
  socket.on('error', () => undefined);
  socket.on('message', () => resolve(true));
  const asking = setInterval(ask, EVERY_MS);
  const giveUp = setTimeout(() => resolve(false), PATIENCE_MS);
  void ended?.then(() => resolve(false));
  ask();
  try {
    return await promise;
  } finally {
    clearInterval(asking);
    clearTimeout(giveUp);
    socket.close();
  }
}

const rmcp = '0600ff07';
const session = '000000000000000000' + '09';
const request = '2018c8' + '810038' + '8e04' + 'b5'; // IPMI 2.0 data wanted, this channel, administrator

// `node ipmi-probe.ts ADDRESS PORT`: the same from inside a network namespace, where only a process can stand.
if (import.meta.main) {
  const [address = '127.0.0.1', port = '623'] = process.argv.slice(2);
  process.exitCode = (await bmcAnswers(address, Number(port))) ? 0 : 1;
}
