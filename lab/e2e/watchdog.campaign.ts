import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';

import { buildRamdisk } from '../../images/ramdisk/build.ts';
import { run } from '../process/run.ts';
import { startProcess } from '../process/start.ts';

/**
 * The ramdisk on a machine whose BMC has a watchdog timer (QEMU's own, over KCS), with stages that take their time in place of ours:
 * one install that takes longer than the timer, and one in which the kernel stops.
 */
void test('a BMC is kept from resetting a busy ramdisk, stopped before the handoff, and resets a dead one', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rs-watchdog-'));
  const cacheDirectory = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'rackstart');
  const { kernel, initrd } = await buildRamdisk({ cacheDirectory, progress: (line) => t.comment(line) });
  await withScripts(initrd, join(directory, 'initrd'), { 'protocol.sh': appliance, 'wipe.sh': stages });
  const serial = join(directory, 'serial.log');
  const machine = await startProcess({
    argv: [
      ...['qemu-system-x86_64', '-machine', 'q35,graphics=off,smm=off,hpet=off,vmport=off', '-nodefaults'],
      ...['-accel', 'tcg,thread=multi', '-cpu', 'Nehalem', '-m', '512', '-display', 'none', '-no-reboot'],
      ...['-device', 'ipmi-bmc-sim,id=bmc', '-device', 'isa-ipmi-kcs,bmc=bmc', '-serial', `file:${serial}`],
      ...['-kernel', kernel, '-initrd', join(directory, 'initrd')],
      ...['-append', 'boot=rackstart console=ttyS0,115200 quiet'],
    ],
    logFile: join(directory, 'qemu.log'),
  });
  try {
    const ended = await machine.ended;
    const printed = readFileSync(serial, 'utf8');
    t.equal(ended.code, 0, 'a reset, which ends this QEMU');
    t.match(printed, /watchdog resets this machine when it stands still for 45 s/);
    t.match(printed, /image done[^]*kexec done +timer=04_00_00_00_ff_ff_/, 'it was kept up, and stopped');
    t.match(printed, /image \.\.\.[^]*image done[^]*image \.\.\.[^]*Kernel panic - not syncing: sysrq/);
    if (!t.passing()) t.comment(printed);
  } finally {
    await machine.stop();
    await rm(directory, { recursive: true });
  }
});

const appliance = `
has_order() { :; }
cut_off() { false; }
field() { sed -n "s/^$1=//p" "$2"; }
optional() { field "$1" "$RUN/order"; }
report() { :; }
tell() { :; }
tell_meanwhile() { :; }
send_log() { :; }
next_order() { : >"$RUN/again"; }
`;

const stages = `
stage_network() { :; }
stage_claim() { printf 'verb=install\\nwatchdog=45\\n' >"$RUN/order"; }
stage_disk() { :; }
stage_image() { if [ -e "$RUN/again" ]; then echo c >/proc/sysrq-trigger; else sleep 60; fi; }
stage_grow() { :; }
stage_inject() { stop_watchdog; }
stage_kexec() { ipmitool raw 0x06 0x25 | sed 's/^ /timer=/; s/ /_/g' >"$RUN/facts"; }
`;

/** The initrd with these in place of its own scripts: of two archives the later one wins. */
async function withScripts(initrd: string, target: string, scripts: Readonly<Record<string, string>>): Promise<void> {
  const tree = `${target}.tree`;
  mkdirSync(join(tree, 'usr/lib/rackstart'), { recursive: true });
  for (const [name, script] of Object.entries(scripts)) writeFileSync(join(tree, 'usr/lib/rackstart', name), script);
  copyFileSync(initrd, target);
  // An archive begins at a multiple of four bytes.
  truncateSync(target, Math.ceil(statSync(target).size / 4) * 4);
  await run(['sh', '-c', 'cd "$1" && find . | cpio --quiet -o -H newc >>"$2"', 'sh', tree, target]);
}
