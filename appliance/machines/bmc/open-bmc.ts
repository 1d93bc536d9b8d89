import { SECOND } from '../../kernel/clock.ts';
import type { Clock, Millis } from '../../kernel/clock.ts';
import type { Ids } from '../../kernel/ids.ts';
import type { Log } from '../../kernel/log.ts';
import type { Bmc, BmcCommandListener, BmcEndpoint } from './bmc.ts';
import { CommandQueue } from './command-queue.ts';
import type { CommandRate } from './command-queue.ts';
import { IpmiBmc } from './ipmi-bmc.ts';
import type { Patience } from './ipmi/bmc-socket.ts';
import { SessionTransport } from './ipmi/session-transport.ts';
import { IpmitoolTransport } from './ipmitool.ts';
import type { IpmiTransport } from './transport.ts';

export interface BmcDeps {
  clock: Clock;
  ids: Ids;
  log: Log;
  onCommand: BmcCommandListener;
  timing?: BmcTiming;
}

export interface BmcTiming {
  /** For each message: real BMCs answer within 0.3 s, and some stop for 2 s now and then. */
  patience: Patience;
  rate: CommandRate;
  /** How long a machine may take to reach the power state it was told. */
  powerDeadline: Millis;
}

/** A start is about ten commands: two of them go out at once. Polling and retries are what the rate tames. */
export const defaultTiming: BmcTiming = {
  patience: { each: 1 * SECOND, times: 4 },
  rate: { burst: 30, perSecond: 10 },
  powerDeadline: 20 * SECOND,
};

/** The BMC at this endpoint. Sends nothing yet. */
export function openBmc(endpoint: BmcEndpoint, deps: BmcDeps): Bmc {
  const timing = deps.timing ?? defaultTiming;
  const transport = openTransport(endpoint, { ...deps, timing });
  return new IpmiBmc(endpoint, { clock: deps.clock, transport, powerDeadline: timing.powerDeadline });
}

function openTransport(endpoint: BmcEndpoint, deps: BmcDeps & { timing: BmcTiming }): IpmiTransport {
  const { patience, rate } = deps.timing;
  const queue = new CommandQueue(deps.clock, rate);
  switch (endpoint.kind) {
    case 'ipmi':
      return new SessionTransport(endpoint, { ...deps, patience, queue });
    case 'ipmitool': {
      const eachSeconds = Math.max(1, Math.ceil(patience.each / SECOND));
      return new IpmitoolTransport(endpoint, { ...deps, queue, patience: { eachSeconds, times: patience.times } });
    }
  }
}
