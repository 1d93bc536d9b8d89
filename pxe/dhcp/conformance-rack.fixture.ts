import { execFileSync, spawn, type ChildProcess, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

import type { Test } from 'tap';

import { systemClock } from '../../appliance/kernel/clock.ts';

/** The machine that the server of conformance.fixture.ts knows: it has 10.77.0.11. */
export const KNOWN = '52:54:00:77:00:01';
export const FIXTURE = new URL('./conformance.fixture.ts', import.meta.url).pathname;
// Whatever becomes of the test, nothing that it started outlives it.
const dying = ['setpriv', '--pdeathsig', 'KILL'];
const missing = process.getuid?.() === 0 ? undefined : 'needs root, for network namespaces';

type Link = 'near' | 'far';
type Packet = { mac: string; name: string; requested?: string; address?: string; relay?: string; port?: string };

/** Two namespaces: the server in one, on `near`; its clients in the other. Undefined when the test was skipped. */
export async function start(t: Test, programs: string[]) {
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
  const namespaces = [here, there];
  t.teardown(async () => {
    for (const child of running) if (child.exitCode === null && child.signalCode === null) await end(child);
    for (const namespace of namespaces) ip('netns', 'delete', namespace);
    rmSync(directory, { recursive: true });
  });
  for (const namespace of namespaces) ip('netns', 'add', namespace);
  for (const [link, address] of [
    ['near', '10.77.0.1/24'],
    ['far', '10.79.0.1/24'],
  ] as const) {
    ip('link', 'add', link, 'netns', here, 'type', 'veth', 'peer', 'name', link, 'netns', there);
    ip('-n', here, 'address', 'add', address, 'dev', link);
    ip('-n', here, 'link', 'set', link, 'up');
  }

  const udhcpcScript = (more: string) => {
    const file = join(directory, 'udhcpc.sh');
    writeFileSync(file, `#!/bin/sh\necho "@ $1"\n${more}\n[ "$1" = deconfig ] || env\necho done\n`, { mode: 0o755 });
    return file;
  };
  const program = (namespace: string, argv: string[]) => {
    const child = spawn('ip', ['netns', 'exec', namespace, ...dying, ...argv], { stdio: ['pipe', 'pipe', 'pipe'] });
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
      const script = udhcpcScript('');
      const argv = ['udhcpc', '-i', link, '-f', '-n', '-q', '-t', '3', '-T', '1', '-s', script, ...more];
      const lines = await program(there, argv).lines;
      return calls(lines);
    },

    /** A client of that MAC in 10.78.0.0/24, behind a router that runs ISC's relay and reaches us from 10.77.0.254. */
    async behindRelay(mac: string) {
      const behind = `${name}-behind`;
      ip('netns', 'add', behind);
      namespaces.push(behind);
      ip('link', 'add', 'racks', 'netns', there, 'type', 'veth', 'peer', 'name', 'near', 'netns', behind);
      ip('-n', there, 'address', 'add', '10.78.0.1/24', 'dev', 'racks');
      ip('-n', there, 'address', 'add', '10.77.0.254/24', 'dev', 'near');
      for (const link of ['racks', 'near', 'lo']) ip('-n', there, 'link', 'set', link, 'up');
      ip('netns', 'exec', there, 'sysctl', '-qw', 'net.ipv4.ip_forward=1');
      ip('-n', here, 'route', 'add', '10.78.0.0/24', 'via', '10.77.0.254');
      ip('-n', behind, 'link', 'set', 'near', 'address', mac, 'up');
      const relay = program(there, [
        'dhcrelay',
        '-4',
        '-d',
        '--no-pid',
        '-a',
        '-id',
        'racks',
        '-iu',
        'near',
        '10.77.0.1',
      ]);
      await relay.until(() => relay.seen.some((line) => line.includes('Sending on   Socket')));
      const run = (more: string[], script: string) =>
        program(behind, ['udhcpc', '-i', 'near', '-f', '-n', '-t', '3', '-T', '1', '-s', script, ...more]);
      return {
        udhcpc: async () => calls(await run(['-q'], udhcpcScript('')).lines),
        /** Binds again, keeps the address, and is told to renew it by SIGUSR1. */
        async renewal() {
          const keep =
            '[ "$1" != bound ] || { ip address replace "$ip/24" dev near; ip route replace default via $router; }';
          const client = run([], udhcpcScript(keep));
          await client.until(() => client.seen.includes('@ bound'));
          await client.until(() => client.seen.some((line) => line.startsWith('done')));
          client.child.kill('SIGUSR1');
          await client.until(() => client.seen.includes('@ renew'));
          await end(client.child);
          return calls(client.seen);
        },
      };
    },

    /** dnsmasq, on the clients' end of the wire; then the server begins to look for others. */
    async foreign(address: string): Promise<void> {
      ip('-n', there, 'address', 'add', `${address}/24`, 'dev', 'near');
      const quiet = ['--keep-in-foreground', '--log-facility=-', '--conf-file=/dev/null', '--user=root', '--port=0'];
      const range = '--dhcp-range=10.77.0.200,10.77.0.210,255.255.255.0,10m';
      const foreign = program(there, ['dnsmasq', ...quiet, '--leasefile-ro', '--no-ping', range]);
      await foreign.until(() => foreign.seen.some((line) => line.includes('IP range')));
      server.child.stdin.write('look\n');
    },

    /** What an engineer is alerted of first. */
    async alert(): Promise<{ code: string; message: string }> {
      const told = () => server.seen.find((line) => line.includes('"alert.raised"'));
      await server.until(() => told() !== undefined);
      return JSON.parse(told() ?? '') as { code: string; message: string };
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
          .map(({ name: type, requested, address, relay, port }) =>
            [type, address ?? requested, relay && `by ${relay}`, port && `at ${port}`].filter(Boolean).join(' '),
          );
      await server.until(() => told().length >= count);
      return told();
    },
  };
}

/** What a program writes, standard error too. */
function linesOf(child: ChildProcessWithoutNullStreams) {
  const all: string[] = [];
  let wake = Promise.withResolvers<undefined>();
  const result = { all, ended: false, more: () => wake.promise };
  const changed = () => {
    wake.resolve(undefined);
    wake = Promise.withResolvers<undefined>();
  };
  for (const stream of [child.stdout, child.stderr]) {
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
  const tomorrow = Math.floor(systemClock.now() / 1000) + 86_400;
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
