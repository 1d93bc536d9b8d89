import { test } from 'tap';
import type { Test } from 'tap';

import { hasCode } from '../../kernel/errors.ts';
import { Secret } from '../../kernel/secret.ts';
import type { Bmc, BmcCommandRecord, BmcEndpoint, HardwareFault } from './bmc.ts';

/** A BMC to prove an implementation against: one controller, the machine behind it, and a way to take it away. */
export interface BmcRig {
  /** The implementation under proof, with the right name and password but for the changes. */
  open(changes?: Partial<BmcEndpoint>): Bmc;
  /** Of every Bmc this rig opened, in order. */
  readonly records: readonly BmcCommandRecord[];
  readonly machine: RigMachine;
  /** Has the BMC add entries to its event log, each told by what follows its time: the last nine bytes of it, in hex. */
  record(...events: string[]): Promise<void>;
  /** The machine starts the watchdog timer; undefined where the BMC can't reset a machine by it. */
  readonly startWatchdog: (() => Promise<void>) | undefined;
  stop(): Promise<void>;
  /** After `stop`: as after a power cut, without any session. */
  start(): Promise<void>;
}

/** Off, obedient and without a boot device at first. */
export interface RigMachine {
  behave(behaviour: 'obeys' | 'stuck on' | 'flapping' | 'forgets boot device'): Promise<void>;
  power(): Promise<'on' | 'off'>;
  /** `none`, `pxe` or `default` (the disk). */
  bootDevice(): Promise<string>;
  /** What it was told since the last call: `power 1`, `power 0`, `reset 1`, `boot pxe` … */
  told(): Promise<string[]>;
}

/** The promises of `Bmc`, for every implementation of it; `createRig` registers its own teardown. */
export function proveBmc(name: string, skip: string | false, createRig: (t: Test) => Promise<BmcRig>): void {
  const prove = (title: string, body: (t: Test, rig: BmcRig, bmc: Bmc) => Promise<void>) => {
    void test(`${name}: ${title}`, { skip }, async (t) => {
      const rig = await createRig(t);
      const bmc = rig.open();
      t.teardown(() => bmc.close());
      await body(t, rig, bmc);
    });
  };

  prove('the power is switched on, reset and switched off, and read back', async (t, { machine }, bmc) => {
    t.equal(await bmc.power(never), 'off');
    await bmc.setPower('on', never);
    t.equal(await machine.power(), 'on');
    t.equal(await bmc.power(never), 'on');
    await bmc.setPower('reset', never);
    await bmc.setPower('off', never);
    t.equal(await machine.power(), 'off');
    t.strictSame(await machine.told(), ['power 1', 'reset 1', 'power 0']);
  });

  prove('a machine that is as wanted is told nothing', async (t, { machine }, bmc) => {
    await bmc.setPower('off', never);
    t.strictSame(await machine.told(), []);
  });

  prove('a machine that is off cannot be reset and is switched on instead', async (t, { machine }, bmc) => {
    await bmc.setPower('reset', never);
    t.strictSame(await machine.told(), ['power 1']);
  });

  prove('the device of the next boot is set, read back and taken back', async (t, { machine }, bmc) => {
    await bmc.bootOnce('pxe', never);
    t.equal(await machine.bootDevice(), 'pxe');
    await bmc.bootOnce('disk', never);
    t.equal(await machine.bootDevice(), 'default');
    await bmc.clearBootOverride(never);
    t.equal(await machine.bootDevice(), 'none');
  });

  prove(
    'the boot device is set right before the reset, and the records say when each was sent',
    async (t, rig, bmc) => {
      await bmc.setPower('on', never);
      await rig.machine.told();
      const before = rig.records.length;
      await bmc.bootOnceAndReset('pxe', never);
      t.strictSame(await rig.machine.told(), ['boot pxe', 'reset 1']);
      const commands = rig.records.slice(before).filter(({ error }) => error === undefined);
      const reset = commands.findIndex(({ command }) => command === 'Chassis Control (hard reset)');
      t.match(commands[reset], { netFn: 0, cmd: 2, completionCode: 0, at: Number, elapsedMs: Number });
      const beforeReset = commands.slice(0, reset).map(({ command }) => command);
      t.equal(beforeReset.at(-1), 'Get System Boot Options', 'nothing comes between the read-back and the reset');
    },
  );

  prove('a machine that stays on after power off was accepted is a lie', async (t, { machine }, bmc) => {
    await machine.behave('stuck on');
    await t.rejects(bmc.setPower('off', never), { code: 'bmc.lied' });
    t.strictSame(await machine.told(), ['power 0']);
  });

  prove('a boot device that was accepted and is not there is a lie, and nothing is reset', async (t, rig, bmc) => {
    await bmc.setPower('on', never);
    await rig.machine.told();
    await rig.machine.behave('forgets boot device');
    await t.rejects(bmc.bootOnceAndReset('pxe', never), { code: 'bmc.lied' });
    t.notOk((await rig.machine.told()).includes('reset 1'));
  });

  prove('readings that never agree are unknown, and nothing is done on unknown', async (t, { machine }, bmc) => {
    await machine.behave('flapping');
    t.equal(await bmc.power(never), 'unknown');
    await t.rejects(bmc.setPower('off', never), { code: 'bmc.power-unknown' });
    await t.rejects(bmc.setPower('reset', never), { code: 'bmc.power-unknown' });
    await t.rejects(bmc.bootOnceAndReset('pxe', never), { code: 'bmc.power-unknown' });
    t.strictSame(await machine.told(), []);
  });

  prove('a BMC that is down is unreachable, by its address', async (t, rig, bmc) => {
    await rig.stop();
    await t.rejects(bmc.power(never), { code: 'bmc.unreachable', message: /127\.0\.0\.1:\d+/, transient: true });
    t.match(rig.records.at(-1), { error: 'bmc.unreachable' });
  });

  prove('a wrong password or user is an error of the login, not of the network', async (t, rig) => {
    for (const wrong of [{ password: new Secret('not this one') }, { username: 'nobody' }]) {
      const bmc = rig.open(wrong);
      await t.rejects(bmc.power(never), { code: 'bmc.auth', message: /127\.0\.0\.1:\d+/, transient: false });
      await bmc.close();
    }
    t.notOk(JSON.stringify(rig.records).includes('not this one'));
  });

  prove('a BMC that restarts between two commands is logged into again', async (t, rig, bmc) => {
    t.equal(await bmc.power(never), 'off');
    await rig.stop();
    await rig.start();
    await bmc.setPower('on', never);
    t.equal(await rig.machine.power(), 'on');
  });

  prove('the controller tells who made it and which firmware it runs', async (t, _rig, bmc) => {
    const identity = await bmc.identity(never);
    t.match(identity, { manufacturerId: 0x1291, productId: 0x0f02, firmware: '9.08', guid: /^[0-9a-f]{32}$/ });
  });

  prove(
    'faults that the event log has recorded behind an entry are told, and nothing before it',
    async (t, rig, bmc) => {
      const none = await bmc.newestEvent(never);
      t.strictSame(await bmc.faultsSince(none, never), { faults: [], upTo: none, isWhole: true });
      await rig.record(UNCORRECTABLE_ECC);
      const told = [{ part: 'memory', event: 'Uncorrectable ECC', sensor: 0x41 }];
      t.match(await bmc.faultsSince(none, never), { faults: told, isWhole: true });
      const before = await bmc.newestEvent(never);
      t.not(before, none);
      t.strictSame(await bmc.faultsSince(before, never), { faults: [], upTo: before, isWhole: true });
      await rig.record(CORRECTED_ECC, THERMAL_TRIP);
      const newest = await bmc.newestEvent(never);
      const { faults, upTo } = await bmc.faultsSince(before, never);
      t.match(faults, [{ part: 'processor', event: 'Thermal Trip', sensor: 0x42, record: newest }]);
      t.equal(faults.length, 1);
      t.equal(upTo, newest);
    },
  );

  prove('an entry that is no more in the event log tells nothing of what is new', async (t, rig, bmc) => {
    await rig.record(UNCORRECTABLE_ECC);
    await t.rejects(bmc.faultsSince(0x7777, never), { code: 'bmc.refused' });
  });

  prove('an event log that is flooded is read piece by piece, to its end', async (t, rig, bmc) => {
    const flood = Array.from({ length: 40 }, () => CORRECTED_ECC);
    await rig.record(CORRECTED_ECC);
    let after = await bmc.newestEvent(never);
    await rig.record(UNCORRECTABLE_ECC, ...flood, THERMAL_TRIP);
    const faults: HardwareFault[] = [];
    for (let isWhole = false; !isWhole;) {
      const sent = rig.records.length;
      const piece = await bmc.faultsSince(after, never);
      t.ok(rig.records.length - sent <= 9, 'one piece takes few commands');
      faults.push(...piece.faults);
      ({ upTo: after, isWhole } = piece);
    }
    t.match(faults, [{ event: 'Uncorrectable ECC' }, { event: 'Thermal Trip' }]);
    t.equal(after, await bmc.newestEvent(never));
  });

  prove('a watchdog timer is stopped, with what it will do, or refused', async (t, rig, bmc) => {
    if (rig.startWatchdog === undefined) {
      await t.rejects(bmc.stopWatchdog('reset', never), { code: 'bmc.refused', details: { completionCode: 0xcc } });
      t.match(rig.records.at(-1), { command: 'Set Watchdog Timer (stop, then reset)', completionCode: 0xcc });
      return;
    }
    await bmc.stopWatchdog('reset', never);
    t.strictSame(await bmc.watchdog(never), { armed: false, fired: false, unfedFor: 0 });
    await rig.startWatchdog();
    t.match(await bmc.watchdog(never), { armed: true, fired: false });
    await bmc.stopWatchdog('none', never);
    t.match(await bmc.watchdog(never), { armed: false });
    await rig.startWatchdog();
    t.match(await bmc.watchdog(never), { armed: false }, 'whoever starts it now, it does nothing');
  });

  prove('a call that is aborted ends at once and leaves the BMC usable', async (t, _rig, bmc) => {
    const abort = new AbortController();
    const reading = bmc.power(abort.signal);
    abort.abort(new Error('changed my mind'));
    await t.rejects(reading, { message: 'changed my mind' });
    t.equal(await bmc.power(never), 'off');
  });

  prove('calls made at the same time all come right', async (t, _rig, bmc) => {
    const readings = await Promise.all([bmc.power(never), bmc.power(never), bmc.identity(never), bmc.power(never)]);
    t.match(readings, ['off', 'off', { productId: 0x0f02 }, 'off']);
  });

  prove('a BMC that was closed rejects what comes after', async (t, rig) => {
    const bmc = rig.open();
    await bmc.power(never);
    const underWay = bmc.power(never).then(
      () => undefined,
      (error: unknown) => error,
    );
    await bmc.close();
    t.ok(hasCode(await underWay, 'bmc.unreachable'));
    await t.rejects(bmc.power(never), { code: 'bmc.unreachable' });
  });
}

// Generator, revision, sensor type, sensor, event type, data (IPMI 2.0 §32.1).
const UNCORRECTABLE_ECC = '2000040c416f01ffff';
const CORRECTED_ECC = '2000040c416f00ffff';
const THERMAL_TRIP = '20000407426f01ffff';

const never = new AbortController().signal;
