import { RackstartError } from '../kernel/errors.ts';

/** The version of what ramdisk, agent and appliance say to each other. */
export const PROTOCOL = 1;

/** Errors: `boot.protocol`. */
export function checkProtocol(spoken: number): void {
  if (spoken === PROTOCOL) return;
  const message = `The machine speaks protocol ${String(spoken)}, the appliance ${String(PROTOCOL)}.`;
  throw new RackstartError('boot.protocol', message, { details: { spoken, appliance: PROTOCOL } });
}
