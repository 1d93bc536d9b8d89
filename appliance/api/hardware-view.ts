import { Type } from 'typebox';

import type { Inspection } from '../../pxe/boot-plan.ts';

const MaybeText = Type.Union([Type.String(), Type.Null()]);
const MaybeNumber = Type.Union([Type.Integer(), Type.Null()]);

/** What an inspection may tell, and not every machine does: the same of machines that are enrolled and of unknown ones. */
export const firmwareFields = {
  firmwareVendor: MaybeText,
  firmwareVersion: MaybeText,
  firmwareDate: Type.Union([Type.String(), Type.Null()], { description: 'Of which day it is: `2014-04-01`.' }),
};
export const Dimms = Type.Array(
  Type.Object({ slot: Type.String(), mib: Type.Integer({ minimum: 0 }), serial: Type.String() }),
  { description: 'Memory modules, as the firmware tells of them.' },
);
export const Wear = Type.Union([Type.Integer(), Type.Null()], { description: 'Percent of its life that are used.' });
export const linkFields = {
  speedMbps: MaybeNumber,
  neighbour: Type.Union([Type.String(), Type.Null()], { description: 'Switch and port, by LLDP.' }),
};

export function presentFirmware(facts: Inspection | undefined) {
  return {
    firmwareVendor: facts?.firmwareVendor ?? null,
    firmwareVersion: facts?.firmwareVersion ?? null,
    firmwareDate: facts?.firmwareDate ?? null,
  };
}
