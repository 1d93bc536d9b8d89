import { chmodSync } from 'node:fs';

import { test } from 'tap';
import type { Test } from 'tap';

import { fakeRamdisk } from './deploy.fixture.ts';

test('the watchdog is set, kept up, and stopped with nothing left to do', async (t) => {
  const { ramdisk, live } = watched(t);
  const said = await live(`start_watchdog; is_told 0x22 3; keeper=$(cat "$RUN/keeper"); stop_watchdog
    kill -0 "$keeper" 2>/dev/null || echo 'nobody is left'`);
  t.match(said, /resets this machine when it stands still for 60 s\nnobody is left\n/);
  const told = ramdisk.read('run/told').trimEnd().split('\n');
  t.equal(told[0], '0x06 0x24 4 1 0 16 88 2', 'for an operating system: a reset after 600 tenths of a second');
  t.match(told.slice(1, 4), ['0x06 0x22', '0x06 0x22', '0x06 0x22']);
  t.same(told.slice(-2), ['0x06 0x24 4 0 0 16 255 255', '0x06 0x25'], 'stopped, and read back');
});

test('one that tells that it still runs, or would do something, is not believed to be stopped', async (t) => {
  for (const answer of ['44 00 00 00 ff ff ff ff', '04 01 00 00 ff ff ff ff', '', 'no such thing']) {
    const { live } = watched(t, answer);
    t.equal(await live('say() { :; }; start_watchdog; stop_watchdog || echo no'), 'no\n', answer);
  }
});

test('a command that is under way when it is stopped comes before the stop', async (t) => {
  const { ramdisk, live } = watched(t);
  await live(`SLOW=0x22; start_watchdog; until [ -e "$RUN/under-way" ]; do sleep 0.01; done; stop_watchdog`);
  t.match(ramdisk.read('run/told'), /^0x06 0x24 .*\n0x06 0x22\n0x06 0x24 4 0 .*\n0x06 0x25\n$/);
});

test('without a BMC, or where it refuses, a server is installed unwatched; where nobody asks, no BMC is', async (t) => {
  const { ramdisk, live } = watched(t);
  t.match(await live(`REFUSES=1; start_watchdog; stop_watchdog && echo done`), /^no watchdog: .*\ndone\n$/);
  t.equal(ramdisk.read('run/told').split('\n').length, 2, 'one question');
  t.match(await live(`IPMI=/nowhere; start_watchdog; stop_watchdog && echo done`), /^no watchdog: .*\ndone\n$/);
  ramdisk.put('run/order', 'verb=install\n');
  t.equal(await live('start_watchdog; stop_watchdog'), '');
  t.equal(ramdisk.read('run/told').split('\n').length, 2, 'and none more');
});

/** A ramdisk on a machine with a BMC, whose order asks for the watchdog; the BMC answers this to what it is asked of its timer. */
function watched(t: Test, answer = '04 00 00 10 ff ff ff ff') {
  const ramdisk = fakeRamdisk(t, { realProc: true });
  ramdisk.put('run/order', 'verb=install\nwatchdog=60\n');
  ramdisk.put('sys/firmware/dmi/entries/38-0/raw', '');
  ramdisk.put(
    'bin/ipmitool',
    `#!/bin/sh
    shift
    if [ "$2" = "$SLOW" ]; then : >"$RUN/under-way"; sleep 1; fi
    echo "$*" >>"$RUN/told"
    if [ "$2" = 0x25 ]; then echo ' ${answer}'; fi
    exit "$REFUSES"`,
  );
  chmodSync(ramdisk.path('bin/ipmitool'), 0o755);
  const machine = `
    PATH='${ramdisk.path('bin')}':$PATH
    export SLOW=none REFUSES=0
    rm -f '${ramdisk.path('bin/sleep')}'
    IPMI=/dev/null
    modprobe() { :; }
    say() { echo "$*"; }
    timeout() { shift; "$@"; }
    sleep() { command sleep 0.02; }
    is_told() { until [ "$(grep -c "$1" "$RUN/told")" -ge "$2" ]; do sleep 0.02; done; }`;
  return { ramdisk, live: (script: string) => ramdisk.shell(`${machine}\n${script}`) };
}
