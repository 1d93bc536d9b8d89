import { createRequire } from 'node:module';
import type { EventEmitter } from 'node:events';

import { createLog } from '../../appliance/kernel/log.ts';
import { systemClock } from '../../appliance/kernel/clock.ts';
import { openDeviceSocket } from '../../appliance/kernel/native-socket.ts';
import { Secret } from '../../appliance/kernel/secret.ts';
import { openStore } from '../../appliance/store/open.ts';
import type { Timeline } from '../timeline.ts';
import { ForeignServers } from './foreign-servers.ts';
import { StoreLeaseBook } from './records.ts';
import { RelayAgents } from './relay.ts';
import { DhcpServer } from './server.ts';
import { StoreNetworks } from './store-networks.ts';
import { reserve, seedFarSubnet, seedSubnet, SUBNET } from './subnet.fixture.ts';

/** Strangers' packets too are told to the timeline, by which the tests see what clients say. */
class TalkativeLeaseBook extends StoreLeaseBook {
  override isStranger(): boolean {
    return false;
  }
}

/**
 * What conformance.test.ts runs inside network namespaces.
 *
 *     serve DATABASE-FILE DEVICE KNOWN-MAC   serves until its standard input ends, 10.78.0.0/24 through the relay 10.78.0.1
 *                                            too; prints `ready`, then each timeline entry and alert as a line of JSON;
 *                                            looks for other servers from a first line of input on
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
  await seedFarSubnet(store);
  const book = (subnetId: string) => new TalkativeLeaseBook({ store, subnetId, clock });
  const networks = new StoreNetworks({ read: store.read, open: ({ id }) => book(id), clock });
  const timeline: Timeline = { seen: (mac, { name, detail }) => print(JSON.stringify({ mac, name, ...detail })) };
  const relays = [{ address: '10.78.0.1', from: '10.77.0.254' }];
  const others = new ForeignServers({
    device,
    subnetId: SUBNET,
    serverAddress: '10.77.0.1',
    expected: false,
    store,
    events: { append: async (_tx, type, { data }) => print(JSON.stringify({ event: type, ...data })) },
    timeline,
    clock,
    log,
  });
  const server = new DhcpServer({
    network: { device, serverAddress: '10.77.0.1', prefixLength: 24 },
    openSocket: openDeviceSocket,
    leases: book(SUBNET),
    relays: new RelayAgents({ relays, networkOf: (address) => networks.of(address), clock }),
    onOtherServer: (client, address) => others.chosen(client, address),
    director: { decide: async () => ({ verb: 'inspect', sessionId: 'bs_1', scriptToken: new Secret('token') }) },
    loaderFor: () => 'undionly.kpxe',
    httpBase: 'http://10.77.0.1:8080',
    timeline,
    clock,
    log,
  });
  const stop = new AbortController();
  const running = [server.run(stop.signal)];
  process.stdin.once('data', () => running.push(others.run(stop.signal))).on('end', () => stop.abort());
  print('ready');
  await running[0];
  await Promise.all(running);
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
