import { existsSync } from 'node:fs';

import { test } from 'tap';
import type { Test } from 'tap';

import type { FakeRamdisk } from './deploy.fixture.ts';
import { fakeRamdisk } from './deploy.fixture.ts';
import { loopDisk, noLoopDisks, run } from './loop-disk.fixture.ts';

const noOpenssl = existsSync('/usr/bin/openssl') ? false : 'needs openssl';

test('what a check finds is told in lines that cannot be forged', async (t) => {
  const ramdisk = machine(t);
  ramdisk.put('sys/devices/system/edac/mc/mc0/ce_count', '3\n');
  ramdisk.put('sys/devices/system/edac/mc/mc1/ce_count', '4\n');
  ramdisk.put('sys/devices/system/edac/mc/mc0/ue_count', '1\nforged=1\n');
  ramdisk.put('sys/block/vda/serial', 'S|1\ndisk=forged\n');
  const found = await ramdisk.shell(
    `readable() { return 0; }; timeout() { return 0; }; progress() { :; }; clock_offset() { echo -7; }; health 8`,
  );
  t.equal(
    found,
    [
      'cores=1',
      `memory_kib=${128 * 1024}`,
      'memory_tested_kib=8',
      'memory_wrong_bytes=0',
      'memory_corrected=7',
      'memory_uncorrected=1',
      'clock_offset=-7',
      'disk=vda|8388608|S1disk=forged|ok|ok',
      'nic=eno1|52:54:00:77:00:01|up|25000',
      '',
    ].join('\n'),
  );
});

test('memory that gives back something else is counted by its bytes', { skip: noOpenssl }, async (t) => {
  const ramdisk = fakeRamdisk(t);
  // As a bit that is stuck does it: behind what was written.
  const stuck = (places: string) => `
    stream() { real "$@" | if [ -e "$RUN/memory" ] && [ ! -s "$RUN/memory" ]; then ${places}; else cat; fi; }
    real() { head -c "\${2}k" /dev/zero | openssl enc -aes-128-ctr -K "$1" -iv 00000000000000000000000000000000; }
    memory_health 64`;
  const wrong = async (places: string) => /^memory_wrong_bytes=(\d+)$/m.exec(await ramdisk.shell(stuck(places)))?.[1];
  t.equal(await wrong('cat'), '0');
  const flip = `{ head -c 1000; head -c 3 >/dev/null; printf 'XYZ'; cat; }`;
  t.equal(await wrong(flip), '6', 'three in each of two passes');
  t.notOk(existsSync(ramdisk.path('run/memory')), 'and what was written is given back');
  await t.rejects(wrong('head -c 1000'), /FAIL boot.stage-failed the sample of the memory/, 'too little is no proof');
});

test('without openssl no memory is called healthy', async (t) => {
  const ramdisk = fakeRamdisk(t);
  await t.rejects(ramdisk.shell('openssl() { return 1; }; memory_health 64'), /FAIL boot.stage-failed/);
});

test('a 64th of a small memory is tried, and no more than was ordered of a large one', async (t) => {
  const ramdisk = machine(t);
  t.equal(await ramdisk.shell('sample_kib 1024'), '2048\n');
  t.equal(await ramdisk.shell('memory_kib() { echo 536870912; }; sample_kib 1024'), '1048576\n');
});

test('a controller that counts nothing tells nothing', async (t) => {
  const ramdisk = fakeRamdisk(t);
  t.equal(await ramdisk.shell('counted_errors ce_count'), '\n');
  ramdisk.put('sys/devices/system/edac/mc/mc0/ce_count', 'N/A\n');
  t.equal(await ramdisk.shell('counted_errors ce_count'), '\n');
});

test('dates as HTTP has them become seconds', async (t) => {
  const ramdisk = fakeRamdisk(t);
  for (const date of [
    'Thu, 01 Jan 1970 00:00:00 GMT',
    'Tue, 29 Feb 2028 23:59:59 GMT',
    'Wed, 01 Mar 2028 00:00:00 GMT',
    'Sun, 06 Nov 1994 08:49:37 GMT',
    'Thu, 31 Dec 2099 12:00:00 GMT',
    'Sat, 21 Nov 2026 22:17:48 GMT',
  ]) {
    t.equal(await ramdisk.shell(`echo '${date}' | epoch_of`), `${Date.parse(date) / 1000}\n`, date);
  }
  t.equal(await ramdisk.shell(`echo 'yesterday' | epoch_of; echo | epoch_of`), '', 'and nothing else does');
});

test('a clock is held against the date of an appliance that its certificate knows', async (t) => {
  const ramdisk = fakeRamdisk(t);
  ramdisk.put('run/url', 'https://127.0.0.1:1\n');
  t.equal(await ramdisk.shell('clock_offset'), '', 'nobody answered');
  const said = `curl() { echo "$*" >"$RUN/asked"; echo 'Thu, 01 Jan 1970 00:01:00 GMT'; }; date() { echo 100; }`;
  t.equal(await ramdisk.shell(`${said}; clock_offset`), '40\n');
  t.match(ramdisk.read('run/asked'), `--cacert ${ramdisk.path('etc/ca.pem')}`);
});

test('a disk is read at its start, its end and between', { skip: noLoopDisks }, async (t) => {
  const { device } = loopDisk(t, 64);
  const ramdisk = fakeRamdisk(t);
  const name = device.replace('/dev/', '');
  ramdisk.put(`sys/block/${name}/size`, run('blockdev', '--getsz', device));
  t.equal(await ramdisk.shell(`unreadable_place ${name}`), 'ok\n');
  const MIB = 1024 * 1024;
  // The device mapper could make a bad sector, where the kernel has one; a dd that fails there is as good.
  const bad = (from: number) => `readable() { [ "$2" != ${from} ] && echo "$2" >>"$RUN/places"; }`;
  for (const place of [0, 63 * MIB, 31 * MIB]) {
    t.equal(await ramdisk.shell(`${bad(place)}; unreadable_place ${name}`), `${place}\n`);
  }
  ramdisk.put('run/places', '');
  await ramdisk.shell(`${bad(-1)}; unreadable_place ${name}`);
  t.equal(new Set(ramdisk.read('run/places').split('\n').filter(Boolean)).size, 33, 'at 33 places');
  ramdisk.put(`sys/block/${name}/size`, `${128 * 2048}\n`);
  t.equal(await ramdisk.shell(`unreadable_place ${name}`), `${127 * MIB}\n`, 'past its end nothing can be read');
});

test('a disk is believed when it says that it is failing, and not asked twice when it cannot say', async (t) => {
  const ramdisk = fakeRamdisk(t);
  for (const [status, health] of [
    [0, 'ok'],
    [8, 'failing'],
    [8 | 64, 'failing'],
    [64, 'ok'],
    [1, 'unknown'],
    [2, 'unknown'],
    [4, 'unknown'],
    [124, 'unknown'],
    [127, 'unknown'],
    [137, 'unknown'],
  ] as const) {
    const said = await ramdisk.shell(`timeout() { echo 'SMART ...'; return ${status}; }; smart_health sda`);
    t.equal(said, `${health}\n`, `smartctl ended with ${status}`);
  }
});

test('a check that the appliance does not take fails, and one that it takes is told', async (t) => {
  const ramdisk = machine(t);
  ramdisk.put('run/order', 'verb=inspect\ngeneration=1\ncheck_memory_mib=1\n');
  const said = (status: number) => `
    bring_links_up() { :; }; readable() { :; }; timeout() { return 1; }; progress() { :; }; clock_offset() { :; }
    complaint() { echo no; }; insist() { cp "$RUN/health" "$RUN/sent"; echo ${status}; }; stage_check`;
  await t.rejects(ramdisk.shell(said(400)), /FAIL boot.stage-failed the check was not taken: status 400 no/);
  await ramdisk.shell(said(204));
  t.equal(ramdisk.read('run/facts'), 'memory_tested_kib=1024\nmemory_wrong_bytes=0\nclock_offset=\n');
  t.match(ramdisk.read('run/sent'), 'disk=vda|8388608||ok|unknown');
});

/** One core, 128 MiB, a disk and a NIC. */
function machine(t: Test): FakeRamdisk {
  const ramdisk = fakeRamdisk(t);
  ramdisk.put('sys/devices/system/cpu/cpu0/topology/thread_siblings_list', '0\n');
  ramdisk.put('sys/devices/system/memory/block_size_bytes', '8000000\n');
  ramdisk.put('sys/devices/system/memory/memory0/state', 'online\n');
  ramdisk.put('sys/block/vda/size', '16384\n');
  ramdisk.put('sys/block/vda/removable', '0\n');
  ramdisk.put('sys/block/vda/ro', '0\n');
  ramdisk.put('sys/block/vda/device/vendor', '');
  ramdisk.put('sys/class/net/eno1/address', '52:54:00:77:00:01\n');
  ramdisk.put('sys/class/net/eno1/type', '1\n');
  ramdisk.put('sys/class/net/eno1/carrier', '1\n');
  ramdisk.put('sys/class/net/eno1/speed', '25000\n');
  ramdisk.put('sys/class/net/eno1/device/vendor', '');
  return ramdisk;
}
