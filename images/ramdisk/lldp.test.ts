import { chmodSync, existsSync } from 'node:fs';

import { test } from 'tap';
import type { Test } from 'tap';

import type { FakeRamdisk } from './deploy.fixture.ts';
import { fakeRamdisk } from './deploy.fixture.ts';

const heardBy = (tcpdump: string) => `${tcpdump}; listen_to_switches; wait; heard_frames; stop_listening`;

test('what a switch says on a NIC with a link is told as it was caught, without what the file has around it', async (t) => {
  const ramdisk = machine(t);
  const program = `#!/bin/sh
    echo "$*" >>"$RUN/listened"
    head -c 40 /dev/zero >"$RUN/lldp/$4"
    printf '\\001\\200\\302\\n' >>"$RUN/lldp/$4"\n`;
  ramdisk.put('bin/tcpdump', program);
  chmodSync(ramdisk.path('bin/tcpdump'), 0o755);
  t.equal(await ramdisk.shell(heardBy(':')), 'lldp=eno1|0180c20a\n');
  const file = ramdisk.path('run/lldp/eno1');
  t.equal(ramdisk.read('run/listened'), `-Z root -i eno1 -s 1518 -c 1 -U -w ${file} ether proto 0x88cc\n`);
  t.notOk(existsSync(ramdisk.path('run/lldp')), 'and the next inspection hears anew');
});

test('a switch that has not spoken, or only half, is told of by nobody', async (t) => {
  const ramdisk = machine(t);
  const written = (bytes: number) => heardBy(`tcpdump() { head -c ${bytes} /dev/zero >"$RUN/lldp/$4"; }`);
  for (const bytes of [0, 23, 24, 40]) t.equal(await ramdisk.shell(written(bytes)), '', `${bytes} bytes`);
  t.equal(await ramdisk.shell(heardBy('tcpdump() { return 1; }')), '', 'nor where nobody can listen');
});

test('a switch that is waited for is heard when it speaks, and for no longer than was said', async (t) => {
  const ramdisk = machine(t);
  const waits = (spoken: string) => `
    tcpdump() { exec tail -f /dev/null; }
    pauses=0
    sleep() { pauses=$((pauses + $1)); ${spoken}; }
    listen_to_switches
    wait_for_switches 32
    echo "$pauses"
    heard_frames
    stop_listening`;
  t.equal(await ramdisk.shell(waits(':')), '31\n', 'nobody speaks');
  const late = 'if [ "$pauses" = 7 ]; then head -c 41 /dev/zero >"$RUN/lldp/eno1"; fi';
  t.equal(await ramdisk.shell(waits(late)), '7\nlldp=eno1|00\n');
  t.equal(await ramdisk.shell(waits(':').replace(' 32', " ''")), '0\n', 'an order that says nothing waits for nobody');
});

test('who listens goes on through the inspection and the check, and ends with them', async (t) => {
  const ramdisk = machine(t);
  const listening = await ramdisk.shell(`
    tcpdump() { echo began >>"$RUN/listened"; exec tail -f /dev/null; }
    listen_to_switches
    listen_to_switches
    listener=$(cat "$RUN/lldp/eno1.pid")
    kill -0 "$listener" && echo listens
    stop_listening
    wait "$listener" || echo ended
    stop_listening
    cat "$RUN/listened"`);
  t.equal(listening, 'listens\nended\nbegan\n');
});

/** With a link on the first of its two NICs. */
function machine(t: Test): FakeRamdisk {
  const ramdisk = fakeRamdisk(t);
  for (const [nic, carrier] of Object.entries({ eno1: '1', eno2: '0' })) {
    ramdisk.put(`sys/class/net/${nic}/type`, '1\n');
    ramdisk.put(`sys/class/net/${nic}/carrier`, `${carrier}\n`);
    ramdisk.put(`sys/class/net/${nic}/device/vendor`, '');
  }
  return ramdisk;
}
