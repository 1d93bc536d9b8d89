import { RackstartError } from '../../kernel/errors.ts';
import type { BmcEndpoint } from './bmc.ts';

export type BmcErrorCode = Extract<RackstartError['code'], `bmc.${string}`>;

/** An error that names the BMC it is about, in its text and its details. */
export function bmcError(
  code: BmcErrorCode,
  endpoint: BmcEndpoint,
  what: string,
  { cause, ...facts }: Readonly<Record<string, unknown>> = {},
): RackstartError {
  const bmc = bmcName(endpoint);
  return new RackstartError(code, `BMC ${bmc} ${what}`, { cause, details: { bmc, ...facts } });
}

/** `address:port`. */
export function bmcName({ address, port }: Pick<BmcEndpoint, 'address' | 'port'>): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
