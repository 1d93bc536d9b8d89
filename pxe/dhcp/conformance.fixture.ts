import { createRequire } from 'node:module';
import type { EventEmitter } from 'node:events';

import { createLog } from '../../appliance/kernel/log.ts';
import { systemClock } from '../../appliance/kernel/clock.ts';
import { openDeviceSocket } from '../../appliance/kernel/native-socket.ts';
import { Secret } from '../../appliance/kernel/secret.ts';
import { openStore } from '../../appliance/store/open.ts';
import { StoreLeaseBook } from './records.ts';
import { DhcpServer } from './server.ts';
import { reserve, seedSubnet, SUBNET } from './subnet.fixture.ts';

/**
 * What conformance.test.ts runs inside network namespaces.
 *
 *     serve DATABASE-FILE DEVICE KNOWN-MAC   serves until its standard input ends; prints `ready`, then each
 *                                            timeline entry as a line of JSON
 *     ask MAC                                plays the npm package `dhcp`'s client; prints what it was bound to
 */
const [command, ...rest] = process.argv.slice(2);
if (command === 'serve') await serve(rest);
else await ask(rest);

async function serve([file = '', device = '', known = '']: string[]): Promise<void> {
  const log = createLog('warn');
  const clock = systemClock;
  const store = await openStore({ url: `sqlite:${file}`, clock, log });
  await seedSubnet(store, { gateway: '10.77.0.254', leaseLast: '10.77.0.110' });
  await reserve(store, known, '10.77.0.11');
  const server = new DhcpServer({
    network: { device, serverAddress: '10.77.0.1', prefixLength: 24 },
    openSocket: openDeviceSocket,
    leases: new StoreLeaseBook({ store, subnetId: SUBNET, clock }),
    director: { decide: async () => ({ verb: 'inspect', sessionId: 'bs_1', scriptToken: new Secret('token') }) },
    loaderFor: () => 'undionly.kpxe',
    httpBase: 'http://10.77.0.1:8080',
    timeline: { seen: (mac, { name, detail }) => print(JSON.stringify({ mac, name, ...detail })) },
    clock,
    log,
  });
  const stop = new AbortController();
  process.stdin.resume().on('end', () => stop.abort());
  const running = server.run(stop.signal);
  print('ready');
  await running;
  await store.close();
}

interface NpmClient extends EventEmitter {
  listen(port: number | undefined, host: string | undefined, ready: () => void): void;
  sendDiscover(): void;
  close(): void;
}

async function ask([mac = '']: string[]): Promise<void> {
  const dhcp = createRequire(import.meta.url)('dhcp') as { createClient(config: object): NpmClient };
  const client = dhcp.createClient({ mac: mac.toUpperCase().replaceAll(':', '-') });
  client.listen(undefined, undefined, () => client.sendDiscover());
  // Its first REQUEST names neither address nor server, which no server can answer; its second one knows the address.
  client.once('message', () => setImmediate(() => client.sendDiscover()));
  client.once('bound', (lease: { address: string; options: object }) => {
    print(JSON.stringify({ address: lease.address, ...lease.options }));
    client.close();
    process.stdin.destroy();
  });
  // Bound or not, it ends with the test that started it.
  process.stdin.resume().on('end', () => client.close());
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
