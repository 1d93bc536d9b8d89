import type { RackstartError } from '../../../kernel/errors.ts';
import type { BmcEndpoint } from '../bmc.ts';
import { bmcError } from '../bmc-error.ts';
import type { IpmiRequest } from './message.ts';

/** The error behind a completion code other than 0 (IPMI 2.0 §5.2): `bmc.busy` when the BMC only needs time. */
export function refused(endpoint: BmcEndpoint, request: IpmiRequest, completionCode: number): RackstartError {
  const text = meanings[completionCode] ?? 'an error of this command or this vendor';
  const code = `0x${completionCode.toString(16).padStart(2, '0')}`;
  return bmcError(
    BUSY.includes(completionCode) ? 'bmc.busy' : 'bmc.refused',
    endpoint,
    `answered ${request.name} with ${code}: ${text}`,
    { command: request.name, completionCode },
  );
}

// 0xc3 says that the command timed out inside the BMC, 0xd1 and 0xd2 that it updates or starts.
const BUSY: readonly number[] = [0xc0, 0xc3, 0xc4, 0xcf, 0xd1, 0xd2];

const meanings: Readonly<Record<number, string>> = {
  0x80: 'parameter not supported',
  0xc0: 'busy',
  0xc1: 'invalid command',
  0xc3: 'timeout while processing the command',
  0xc4: 'out of space',
  0xc7: 'wrong length of the request',
  0xc9: 'parameter out of range',
  0xcc: 'invalid data field',
  0xcf: 'duplicated request',
  0xd1: 'firmware update under way',
  0xd2: 'BMC starting',
  0xd4: 'insufficient privilege',
  0xd5: 'not supported in the present state',
  0xd6: 'disabled',
  0xff: 'unspecified error',
};
