import { execFile, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

import { test, type Test } from 'tap';

const run = promisify(execFile);
const MAIN = new URL('./main.ts', import.meta.url).pathname;
const LOADER = '/usr/lib/ipxe/undionly.kpxe';
const missing =
  process.getuid?.() !== 0
    ? 'needs root'
    : ['/usr/bin/python3', '/usr/bin/setpriv', '/usr/bin/curl', '/usr/sbin/udhcpc', '/usr/sbin/ip', LOADER].find(
        (file) => !existsSync(file),
      );

// What systemd does: opens the units' ports on their device, hands them over as 3 and 4, keeps the capabilities that the
// service names and no other, and hears what it is told.
const MANAGER = `
import os, socket, sys, threading
device, notify, *command = sys.argv[1:]
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(notify)
ports = []
for port in (67, 69):
  each = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
  each.setsockopt(socket.SOL_SOCKET, 25, device.encode() + b'\\0')
  each.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
  each.bind(('0.0.0.0', port))
  ports.append(os.dup2(each.fileno(), 100 + len(ports)))
child = os.fork()
if child == 0:
  for index, port in enumerate(ports): os.dup2(port, 3 + index)
  os.closerange(5, 200)
  given = {'LISTEN_PID': os.getpid(), 'LISTEN_FDS': 2, 'LISTEN_FDNAMES': 'dhcp:tftp', 'NOTIFY_SOCKET': notify, 'WATCHDOG_USEC': 1000000}
  os.environ.update({name: str(value) for name, value in given.items()})
  os.execv('/usr/bin/setpriv', ['setpriv', '--bounding-set=-all,+net_raw', '--inh-caps=-all', *command])
def end():
  sys.stdin.read()
  os.kill(child, 15)
  print('ended', os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
  os._exit(0)
threading.Thread(target=end, daemon=True).start()
while True: print(receiver.recv(4096).decode().replace('\\n', ' '), flush=True)
`;

test(
  'the daemon serves the ports that systemd opened, without the right to open them, and tells when it is ready, lives and stops',
  { skip: missing !== undefined && `${missing} is missing` },
  async (t) => {
    const [here, there] = network(t);
    // Short: the address of a unix socket has room for 107 bytes.
    const state = mkdtempSync(join(tmpdir(), 'rs-systemd-'));
    t.teardown(() => rmSync(state, { recursive: true }));
    for (const file of ['vmlinuz', 'initrd']) writeFileSync(join(state, file), file);
    const config = join(state, 'rackstart.yaml');
    writeFileSync(
      config,
      `{ state: ., ramdisk: ., api: { port: 7770 }, provisioning: [{ device: rack0, address: 10.77.0.1, prefix6: 'fd77::/64' }] }`,
    );
    const command = [process.execPath, MAIN, 'serve', '--config', config];
    const inside = ['netns', 'exec', here, '/usr/bin/python3', '-c', MANAGER, 'rack0', join(state, 'notify')];
    const manager = spawn('ip', [...inside, ...command], { stdio: ['pipe', 'pipe', 'pipe'] });
    t.teardown(() => manager.stdin.end());
    const told = lines(manager.stdout);
    const log = lines(manager.stderr);
    await told.until(/^READY=1/);
    await told.until(/^WATCHDOG=1$/);

    const curl = ['curl', '--silent', '--show-error', '--max-time', '10'];
    const loader = await run('ip', [
      'netns',
      'exec',
      there,
      ...curl,
      'tftp://10.77.0.1/undionly.kpxe',
      '--output',
      join(state, 'loader'),
    ]);
    t.equal(loader.stderr, '');
    t.ok(readFileSync(join(state, 'loader')).equals(readFileSync(LOADER)), 'TFTP by the socket handed over');

    const key = readFileSync(join(state, 'operator.key'), 'utf8').trim();
    const post = async (path: string, body: object) => {
      const header = ['--header', `authorization: Bearer ${key}`, '--header', 'content-type: application/json'];
      const url = `http://127.0.0.1:7770/api/v1${path}`;
      const data = ['--fail-with-body', '--data', JSON.stringify(body)];
      const { stdout } = await run('ip', ['netns', 'exec', here, ...curl, ...header, ...data, url]);
      return JSON.parse(stdout) as { id: string };
    };
    const region = await post('/regions', { name: 'north' });
    await post('/subnets', {
      region: region.id,
      role: 'provisioning',
      cidr: '10.77.0.0/24',
      servers: { first: '10.77.0.10', last: '10.77.0.50' },
      leases: { first: '10.77.0.100', last: '10.77.0.150' },
    });
    await log.until(/serving DHCP/);
    const lease = ['udhcpc', '-i', 'client0', '-n', '-q', '-f', '-t', '3', '-T', '2', '-s', '/bin/true'];
    const { stderr } = await run('ip', ['netns', 'exec', there, ...lease]);
    t.match(stderr, /lease of 10\.77\.0\.\d+ obtained/, 'DHCP by the socket handed over');

    manager.stdin.end();
    await told.until(/^STOPPING=1/);
    t.equal(await told.until(/^ended/), 'ended 0');
  },
);

function network(t: Test): readonly [string, string] {
  const [here, there] = [`rs-systemd-${process.pid}-a`, `rs-systemd-${process.pid}-b`];
  const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] });
  for (const namespace of [here, there]) {
    ip('netns', 'add', namespace);
    t.teardown(() => ip('netns', 'delete', namespace));
    ip('-n', namespace, 'link', 'set', 'lo', 'up');
  }
  ip('link', 'add', 'rack0', 'netns', here, 'type', 'veth', 'peer', 'name', 'client0', 'netns', there);
  for (const [namespace, device, address] of [
    [here, 'rack0', '10.77.0.1/24'],
    [there, 'client0', '10.77.0.9/24'],
  ] as const) {
    ip('-n', namespace, 'address', 'add', address, 'dev', device);
    ip('-n', namespace, 'link', 'set', device, 'up');
  }
  return [here, there];
}

/** Waits for a line that matches; fails with all that was heard when the stream ends first. */
function lines(stream: NodeJS.ReadableStream): { until(wanted: RegExp): Promise<string> } {
  const heard: string[] = [];
  const iterator = createInterface({ input: stream })[Symbol.asyncIterator]();
  return {
    async until(wanted) {
      for (;;) {
        const { value, done } = await iterator.next();
        if (done === true) throw new Error(`${String(wanted)} was never heard: ${heard.join(' | ')}`);
        heard.push(value);
        if (wanted.test(value)) return value;
      }
    },
  };
}
