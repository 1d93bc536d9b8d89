import type { SimulatedChassis } from './bmc-server-commands.ts';

/** How a machine and its BMC misbehave together. */
export type ChassisBehaviour = 'obeys' | 'stuck on' | 'flapping' | 'forgets boot device';

/** A machine in memory behind a simulated BMC: off, obedient and without a boot device at first. */
export interface SimulatedMachine {
  readonly chassis: SimulatedChassis;
  behave(behaviour: ChassisBehaviour): Promise<void>;
  power(): Promise<'on' | 'off'>;
  /** `none`, `pxe`, `default` (the disk), or the number of another device. */
  bootDevice(): Promise<string>;
  /** What it was told since the last call, such as `power 1`, `reset 1`, `boot pxe`. */
  told(): Promise<string[]>;
}

export function simulatedMachine(): SimulatedMachine {
  const state = { on: false, said: false, flags: Buffer.alloc(5), told: [] as string[] };
  let behaviour: ChassisBehaviour = 'obeys';
  const chassis: SimulatedChassis = {
    power: () => {
      if (behaviour === 'stuck on') return true;
      state.said = behaviour === 'flapping' ? !state.said : state.on;
      return state.said;
    },
    setPower: (on) => {
      state.told.push(`power ${on ? 1 : 0}`);
      state.on = on;
    },
    reset: () => {
      state.told.push('reset 1');
    },
    bootFlags: () => state.flags,
    setBootFlags: (flags) => {
      state.told.push(`boot ${deviceName(flags)}`);
      if (behaviour !== 'forgets boot device') state.flags = Buffer.from(flags);
    },
  };
  return {
    chassis,
    behave: async (next) => {
      behaviour = next;
    },
    power: async () => (state.on ? 'on' : 'off'),
    bootDevice: async () => deviceName(state.flags),
    told: async () => state.told.splice(0),
  };
}

// §28.13, parameter 5, second byte, bits 5 to 2.
function deviceName(flags: Buffer): string {
  const selector = (flags.readUInt8(1) & 0x3c) >> 2;
  return ['none', 'pxe', 'default'][selector] ?? String(selector);
}
