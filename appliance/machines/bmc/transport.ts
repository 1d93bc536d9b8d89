import type { Clock } from '../../kernel/clock.ts';
import { asRackstartError } from '../../kernel/errors.ts';
import type { BmcCommandListener, BmcCommandRecord, BmcEndpoint } from './bmc.ts';
import { bmcName } from './bmc-error.ts';
import type { IpmiRequest } from './ipmi/message.ts';

/** A way to bring one IPMI request to a BMC and its answer back: our own session, or a program. */
export interface IpmiTransport {
  /** The bytes after the completion code; any other completion code than 0 rejects as `completion-code.ts` says. */
  request(request: IpmiRequest, signal: AbortSignal): Promise<Buffer>;
  close(): Promise<void>;
}

export interface Recorder {
  clock: Clock;
  onCommand: BmcCommandListener;
}

/** Runs `work`, which sends the request, and tells the listener how it went, whatever happens. */
export async function recorded<T>(
  { clock, onCommand }: Recorder,
  endpoint: BmcEndpoint,
  { name, netFn, cmd }: Pick<IpmiRequest, 'name' | 'netFn' | 'cmd'>,
  work: () => Promise<T>,
): Promise<T> {
  const at = clock.now();
  const tell = (outcome: Pick<BmcCommandRecord, 'completionCode' | 'error' | 'answer'>) =>
    onCommand({ at, bmc: bmcName(endpoint), command: name, netFn, cmd, ...outcome, elapsedMs: clock.now() - at });
  let result: T;
  try {
    result = await work();
  } catch (error) {
    const { code, details } = asRackstartError(error);
    const { completionCode } = details;
    tell({ error: code, ...(typeof completionCode === 'number' ? { completionCode } : {}) });
    throw error;
  }
  const answer = Buffer.isBuffer(result) && result.length > 0 ? { answer: result.toString('hex') } : {};
  tell({ completionCode: 0, ...answer });
  return result;
}
