import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

import { test } from 'tap';

import { SECOND } from '../appliance/kernel/clock.ts';
import { hasCode, RackstartError } from '../appliance/kernel/errors.ts';
import { silentLog } from '../appliance/kernel/log.ts';
import { ManualClock } from '../appliance/kernel/manual-clock.ts';
import type { RawIcmp6 } from '../appliance/kernel/native-socket.ts';
import { encodeRouterAdvertisement, isRouterSolicitation, RouterAdvertiser } from './router-advertisement.ts';

const FIXTURE = new URL('./router-advertisement.fixture.ts', import.meta.url).pathname;
const SOLICITATION = Buffer.from('8500000000000000', 'hex');

test('an advertisement announces a prefix and no default router', (t) => {
  const expected = [
    '86000000' + '40000000' + '00000000' + '00000000', // hop limit 64, no flags, lifetime 0, timers unspecified
    '0101525400770001', // source link-layer address
    '030440c0' + '00000e10' + '00000708' + '00000000', // prefix of 64, on-link and autonomous, 3600 s, 1800 s
    'fd527374000100000000000000000000',
  ].join('');
  const content = { prefix: 'fd52:7374:1::/64', mac: '52:54:00:77:00:01' };
  t.equal(encodeRouterAdvertisement(content).toString('hex'), expected);
  t.equal(
    encodeRouterAdvertisement({ ...content, prefix: 'fd52:7374:1::42/64' }).toString('hex'),
    expected,
    'bits beyond the prefix length are cleared',
  );
  t.equal(encodeRouterAdvertisement({ prefix: content.prefix }).length, expected.length / 2 - 8);
  for (const prefix of ['', '10.0.0.0/8', 'fd52::', 'fd52::/129']) {
    try {
      encodeRouterAdvertisement({ prefix });
      t.fail(`${prefix} was taken for a prefix`);
    } catch (error) {
      t.ok(hasCode(error, 'config.invalid'), String(error));
    }
  }
  t.end();
});

test('only a well-formed solicitation counts as one', (t) => {
  const withLinkLayer = Buffer.concat([SOLICITATION, Buffer.from('0101525400770001', 'hex')]);
  t.ok(isRouterSolicitation(SOLICITATION, 'fe80::1'));
  t.ok(isRouterSolicitation(SOLICITATION, '::'));
  t.ok(isRouterSolicitation(withLinkLayer, 'fe80::1'));
  t.notOk(isRouterSolicitation(withLinkLayer, '::'), 'who has no address must not send the link-layer option');
  t.notOk(isRouterSolicitation(SOLICITATION.subarray(0, 7), 'fe80::1'), 'too short');
  t.notOk(isRouterSolicitation(withLinkLayer.subarray(0, 12), 'fe80::1'), 'an option cut off');
  t.notOk(isRouterSolicitation(Buffer.concat([SOLICITATION, Buffer.alloc(8)]), 'fe80::1'), 'an option of length 0');
  t.notOk(isRouterSolicitation(Buffer.from('8501000000000000', 'hex'), 'fe80::1'), 'another code');
  t.notOk(isRouterSolicitation(Buffer.from('8600000000000000', 'hex'), 'fe80::1'), 'another type');
  t.end();
});

test('who asks is answered alone and at once; who has no address through the group, at most every 3 s', async (t) => {
  const link = fakeLink();
  const { clock, stop, done } = advertise(link);
  await clock.advance(0);
  t.same(link.takeSent(), ['ff02::1'], 'the first advertisement needs no question');

  link.waiting.push('fe80::1', 'fe80::2', 'fe80::1');
  await clock.advance(100);
  t.same(link.takeSent(), ['fe80::1', 'fe80::2'], 'each asker once');

  link.waiting.push('2001:db8::1');
  await clock.advance(100);
  t.same(link.takeSent(), [], 'an address of another link gets no answer');

  link.waiting.push('::', '::');
  await clock.advance(2 * SECOND);
  t.same(link.takeSent(), [], 'too soon after the last');
  await clock.advance(1 * SECOND);
  t.same(link.takeSent(), ['ff02::1'], 'one answer for all who asked');

  await clock.advance(120 * SECOND);
  t.same(link.takeSent(), ['ff02::1', 'ff02::1'], 'two periods of 60 s');
  stop();
  await done;
  t.ok(link.closed);
});

test('a link that is down stops nothing, and a flood of questions is read in bounded portions', async (t) => {
  const link = fakeLink();
  link.broken = true;
  const { clock, stop, done } = advertise(link);
  await clock.advance(60 * SECOND);
  link.broken = false;
  link.waiting.push(...Array.from({ length: 1000 }, (_, index) => `fe80::${(index + 1).toString(16)}`));
  await clock.advance(100);
  t.equal(link.waiting.length, 1000 - 64);
  t.equal(link.takeSent().length, 64);
  stop();
  await done;
});

test('a kernel behind our advertisement configures an address', { skip: notRoot() }, async (t) => {
  const name = `rs-ra-${process.pid}`;
  const [router, host] = [`${name}-a`, `${name}-b`];
  t.teardown(() => [router, host].forEach((namespace) => ip('netns', 'delete', namespace)));
  for (const namespace of [router, host]) {
    ip('netns', 'add', namespace);
    // Duplicate address detection alone would take a second.
    sysctl(namespace, 'default/accept_dad', '0');
  }
  ip('link', 'add', 'eth0', 'netns', router, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', host);
  ip('-n', host, 'link', 'set', 'eth0', 'address', '52:54:00:77:00:01');
  sysctl(host, 'eth0/accept_ra', '1');
  const monitor = spawn('ip', ['-n', host, '-6', 'monitor', 'address', 'route']);
  t.teardown(() => monitor.kill());
  const told = linesOf(createInterface({ input: monitor.stdout }));
  for (const namespace of [router, host]) ip('-n', namespace, 'link', 'set', 'eth0', 'up');

  const service = spawn('ip', ['netns', 'exec', router, process.execPath, FIXTURE, 'eth0', 'fd52:7374:1::/64'], {
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  t.teardown(() => service.kill());
  const address = 'fd52:7374:1:0:5054:ff:fe77:1';
  await told(new RegExp(`inet6 ${address}/64 scope global .*mngtmpaddr`));
  const route = execFileSync('ip', ['-n', host, '-6', 'route', 'show', 'proto', 'kernel']).toString();
  t.match(route, /fd52:7374:1::\/64 dev eth0 .*expires/, 'the prefix is on the link');
  const defaults = execFileSync('ip', ['-n', host, '-6', 'route', 'show', 'default']).toString();
  t.equal(defaults, '', 'and we are no default router');

  // The link goes down and up: the host asks again, and gets its address back long before the period is over.
  ip('-n', host, 'link', 'set', 'eth0', 'down');
  await told(new RegExp(`Deleted .*inet6 ${address}/64`));
  ip('-n', host, 'link', 'set', 'eth0', 'up');
  await told(new RegExp(`inet6 ${address}/64 scope global .*mngtmpaddr`));

  const ended = once(service, 'exit');
  service.stdin.end();
  t.same(await ended, [0, null]);
});

function advertise(link: RawIcmp6) {
  const clock = new ManualClock();
  const controller = new AbortController();
  const links = [{ device: 'eth9', prefix: 'fd52:7374:1::/64' }];
  const done = new RouterAdvertiser({ links, clock, log: silentLog, open: () => link }).run(controller.signal);
  return { clock, stop: () => controller.abort(), done };
}

function fakeLink() {
  const sent: string[] = [];
  const waiting: string[] = [];
  const link = {
    waiting,
    broken: false,
    closed: false,
    takeSent: () => sent.splice(0),
    send(_message: Uint8Array, destination: string) {
      if (link.broken) throw new RackstartError('config.invalid', 'ENETDOWN');
      sent.push(destination);
    },
    receive() {
      const source = waiting.shift();
      return source === undefined ? undefined : { message: SOLICITATION, source };
    },
    close: () => void (link.closed = true),
  };
  return link;
}

/** Waits until a line matches; lines are used up, in order. */
function linesOf(output: ReturnType<typeof createInterface>): (pattern: RegExp) => Promise<void> {
  const lines: string[] = [];
  output.on('line', (line) => lines.push(line));
  return async (pattern) => {
    for (;;) {
      for (let line = lines.shift(); line !== undefined; line = lines.shift()) if (pattern.test(line)) return;
      await once(output, 'line');
    }
  };
}

function sysctl(namespace: string, key: string, value: string): void {
  execFileSync('ip', ['netns', 'exec', namespace, 'sysctl', '-qw', `net.ipv6.conf.${key.replace('/', '.')}=${value}`]);
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

function notRoot(): string | false {
  return process.getuid?.() === 0 ? false : 'needs root';
}
