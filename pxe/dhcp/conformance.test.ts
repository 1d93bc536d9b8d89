import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

import { test, type Test } from 'tap';

// Independent clients against the real server, over a veth pair between two network namespaces.

const KNOWN = '52:54:00:77:00:01';
const FIXTURE = new URL('./conformance.fixture.ts', import.meta.url).pathname;
const missing = process.getuid?.() === 0 ? undefined : 'needs root, for network namespaces';

test('udhcpc is bound: a known machine to its reservation, a stranger to the range', async (t) => {
  const rack = await start(t, ['udhcpc']);
  if (rack === undefined) return;
  for (const [mac, address] of [
    [KNOWN, '10.77.0.11'],
    ['52:54:00:77:00:21', '10.77.0.100'],
  ] as const) {
    rack.plug(mac);
    t.match(await rack.udhcpc('near'), {
      bound: { ip: address, mask: '24', router: '10.77.0.254', dns: '10.77.0.2', serverid: '10.77.0.1' },
    });
  }
  t.same(await rack.packets(KNOWN, 4), ['discover', 'offer 10.77.0.11', 'request 10.77.0.11', 'ack 10.77.0.11']);
});

test('udhcpc says that it is a PXE ROM, and is told the loader', async (t) => {
  const rack = await start(t, ['udhcpc']);
  if (rack === undefined) return;
  rack.plug(KNOWN);
  const rom = ['-V', 'PXEClient:Arch:00000:UNDI:002001', '-x', '0x5d:0000', '-O', 'tftp', '-O', 'bootfile'];
  t.match(await rack.udhcpc('near', rom), {
    bound: { ip: '10.77.0.11', siaddr: '10.77.0.1', boot_file: 'undionly.kpxe', bootfile: 'undionly.kpxe' },
  });
});

test('udhcpc finds its address in use, declines it and is given another', async (t) => {
  const rack = await start(t, ['udhcpc']);
  if (rack === undefined) return;
  const stranger = '52:54:00:77:00:22';
  rack.squat('10.77.0.100');
  rack.plug(stranger);
  t.match(await rack.udhcpc('near', ['-a', '-A', '1']), { bound: { ip: '10.77.0.101' } });
  const packets = await rack.packets(stranger, 9);

  t.equal(packets[4], 'decline 10.77.0.100');
  t.equal(packets[8], 'ack 10.77.0.101');
});

test('dhclient comes back with an address of before, is refused, bound anew, and releases it', async (t) => {
  const rack = await start(t, ['dhclient']);
  if (rack === undefined) return;
  rack.plug(KNOWN);
  await rack.dhclient(['-1', '-d'], /bound to 10\.77\.0\.11 /, '10.77.0.150');
  await rack.dhclient(['-r', '-d'], /DHCPRELEASE of 10\.77\.0\.11 /);
  const packets = await rack.packets(KNOWN, 7);
  t.same(packets, [
    'request 10.77.0.150',
    'nak 10.77.0.150',
    'discover',
    'offer 10.77.0.11',
    'request 10.77.0.11',
    'ack 10.77.0.11',
    'release 10.77.0.11',
  ]);
});

test("the npm package dhcp's client is bound", async (t) => {
  const rack = await start(t, []);
  if (rack === undefined) return;
  const mac = '52:54:00:77:00:23';
  rack.plug(mac);
  const [line = ''] = await rack.client([process.execPath, FIXTURE, 'ask', mac]).lines;
  t.match(JSON.parse(line), { address: '10.77.0.100', netmask: '255.255.255.0', server: '10.77.0.1' });
});

test('only the interface named is served, whatever else the host has', async (t) => {
  const rack = await start(t, ['udhcpc']);
  if (rack === undefined) return;
  const elsewhere = '52:54:00:77:00:24';
  rack.plug(elsewhere, 'far');
  t.same(Object.keys(await rack.udhcpc('far', ['-t', '1', '-T', '1'])), ['leasefail']);
  rack.plug(KNOWN);
  t.match(await rack.udhcpc('near'), { bound: { ip: '10.77.0.11' } });
  t.same(await rack.packets(elsewhere, 0), []);
});

type Link = 'near' | 'far';
type Packet = { mac: string; name: string; requested?: string; address?: string };

/** Two namespaces: the server in one, on `near`; its clients in the other. Undefined when the test was skipped. */
async function start(t: Test, programs: string[]) {
  const absent = programs.filter(
    (program) => !['/usr/sbin', '/sbin', '/usr/bin'].some((at) => existsSync(join(at, program))),
  );
  const reason = missing ?? (absent.length > 0 ? `the Debian package of ${absent.join(', ')} is missing` : undefined);
  if (reason !== undefined) {
    t.plan(0, reason);
    return undefined;
  }
  const name = `rs-dhcp-${process.pid}`;
  const [here, there] = [`${name}-server`, `${name}-client`];
  const directory = mkdtempSync(join(tmpdir(), 'rs-dhcp-'));
  const running: ChildProcess[] = [];
  t.teardown(async () => {
    for (const child of running) if (child.exitCode === null && child.signalCode === null) await end(child);
    for (const namespace of [here, there]) ip('netns', 'delete', namespace);
    rmSync(directory, { recursive: true });
  });
  for (const namespace of [here, there]) ip('netns', 'add', namespace);
  for (const [link, address] of [
    ['near', '10.77.0.1/24'],
    ['far', '10.78.0.1/24'],
  ] as const) {
    ip('link', 'add', link, 'netns', here, 'type', 'veth', 'peer', 'name', link, 'netns', there);
    ip('-n', here, 'address', 'add', address, 'dev', link);
    ip('-n', here, 'link', 'set', link, 'up');
  }

  const program = (namespace: string, argv: string[]) => {
    const child = spawn('ip', ['netns', 'exec', namespace, ...argv], { stdio: ['pipe', 'pipe', 'pipe'] });
    running.push(child);
    const lines = linesOf(child);
    return {
      child,
      seen: lines.all,
      lines: once(child, 'close').then(() => lines.all),
      /** Resolves when what was heard satisfies `enough`, or fails when the program ends before. */
      async until(enough: () => boolean): Promise<void> {
        while (!enough()) {
          if (lines.ended) throw new Error(`${argv.join(' ')} ended:\n${lines.all.join('\n')}`);
          await lines.more();
        }
      },
    };
  };
  const server = program(here, [process.execPath, FIXTURE, 'serve', join(directory, 'rackstart.db'), 'near', KNOWN]);
  await server.until(() => server.seen.includes('ready'));

  return {
    client: (argv: string[]) => program(there, argv),

    /** A NIC with this address appears at the client's end. */
    plug(mac: string, link: Link = 'near'): void {
      ip('-n', there, 'link', 'set', link, 'down');
      ip('-n', there, 'link', 'set', link, 'address', mac);
      ip('-n', there, 'link', 'set', link, 'up');
      // For clients that know no raw sockets.
      ip('-n', there, 'route', 'replace', '255.255.255.255', 'dev', link);
    },

    /** Somebody on the rack's network has this address already. */
    squat: (address: string) => ip('-n', here, 'address', 'add', `${address}/32`, 'dev', 'near'),

    /** Runs udhcpc to its first lease; resolves to what its script was called with. */
    async udhcpc(link: Link, more: string[] = []): Promise<Record<string, Record<string, string>>> {
      const script = join(directory, 'udhcpc.sh');
      writeFileSync(script, '#!/bin/sh\necho "@ $1"\n[ "$1" = deconfig ] || env\n', { mode: 0o755 });
      const argv = ['udhcpc', '-i', link, '-f', '-n', '-q', '-t', '3', '-T', '1', '-s', script, ...more];
      const lines = await program(there, argv).lines;
      return calls(lines);
    },

    /**
     * Runs ISC's client to a line and, when it stays for longer, ends it; `lease` is what it has from before. A client
     * that releases announces the packet, then sends it, and ends by itself: ended at the line, it might never send.
     */
    async dhclient(more: string[], says: RegExp, lease?: string): Promise<void> {
      const file = (name: string) => join(directory, `dhclient.${name}`);
      writeFileSync(file('conf'), 'initial-interval 1;\ntimeout 5;\nretry 1;\n');
      // It releases by unicast, and so from an address that it must have.
      const script = '[ "$reason" != BOUND ] || ip address add "$new_ip_address/24" dev "$interface"';
      writeFileSync(file('sh'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      if (lease !== undefined) writeFileSync(file('leases'), oldLease(lease));
      // A pid file of its own each time: `-r` would kill whoever has the number in it.
      const files = ['-cf', file('conf'), '-lf', file('leases'), '-pf', file(`pid${more.join('')}`), '-sf', file('sh')];
      const client = program(there, ['dhclient', '-4', '-v', ...more, ...files, 'near']);
      await client.until(() => client.seen.some((line) => says.test(line)));
      if (more.includes('-r')) await client.lines;
      else await end(client.child);
    },

    /** The server's timeline of one MAC, once it has `count` entries. */
    async packets(mac: string, count: number): Promise<string[]> {
      const told = () =>
        server.seen
          .filter((line) => line.startsWith('{"mac"'))
          .map((line) => JSON.parse(line) as Packet)
          .filter((packet) => packet.mac === mac)
          .map(({ name: type, requested, address }) => [type, address ?? requested].filter(Boolean).join(' '));
      await server.until(() => told().length >= count);
      return told();
    },
  };
}

/** What a program writes, standard error too. */
function linesOf(child: ChildProcess) {
  const all: string[] = [];
  let wake = Promise.withResolvers<undefined>();
  const result = { all, ended: false, more: () => wake.promise };
  const changed = () => {
    wake.resolve(undefined);
    wake = Promise.withResolvers<undefined>();
  };
  for (const stream of [child.stdout!, child.stderr!]) {
    createInterface({ input: stream }).on('line', (line) => {
      all.push(line);
      changed();
    });
  }
  child.once('close', () => {
    result.ended = true;
    changed();
  });
  return result;
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

// `ip netns exec` replaces itself by the program: the child's pid is the program's.
async function end(child: ChildProcess): Promise<void> {
  const closed = once(child, 'close');
  child.stdin?.end();
  child.kill('SIGTERM');
  await closed;
}

// `@ EVENT` and then the environment of that call.
function calls(lines: string[]): Record<string, Record<string, string>> {
  const result: Record<string, Record<string, string>> = {};
  let variables: Record<string, string> = {};
  for (const line of lines) {
    const event = /^@ (\w+)$/.exec(line)?.[1];
    if (event !== undefined) {
      variables = {};
      if (event !== 'deconfig') result[event] = variables;
      continue;
    }
    const [, name, value] = /^([a-z_]+)=(.*)$/.exec(line) ?? [];
    if (name !== undefined && value !== undefined) variables[name] = value;
  }
  return result;
}

function oldLease(address: string): string {
  const tomorrow = Math.floor(Date.now() / 1000) + 86_400;
  return `lease {
  interface "near";
  fixed-address ${address};
  option subnet-mask 255.255.255.0;
  option dhcp-lease-time 86400;
  option dhcp-server-identifier 10.77.0.1;
  renew epoch ${tomorrow};
  rebind epoch ${tomorrow};
  expire epoch ${tomorrow};
}
`;
}
