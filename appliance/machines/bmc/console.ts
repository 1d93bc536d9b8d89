import { SECOND } from '../../kernel/clock.ts';
import type { Millis } from '../../kernel/clock.ts';
import type { BmcEndpoint } from './bmc.ts';
import { bmcError } from './bmc-error.ts';
import { activateConsole, consoleEnabled, deactivateConsole, deviceId } from './ipmi/commands.ts';
import { refused } from './ipmi/completion-code.ts';
import { ConsoleStream } from './ipmi/console-stream.ts';
import type { SessionDeps } from './ipmi/handshake.ts';
import type { IpmiRequest, IpmiResponse } from './ipmi/message.ts';
import { Session } from './ipmi/session.ts';

/** What a machine prints on its serial port; `lost` says that something before it is missing. */
export type ConsoleListener = (characters: Buffer, lost: boolean) => void;

/**
 * Listens to a machine's serial console by serial-over-LAN (IPMI 2.0 §15, §24) until `signal` aborts, in a session of its own,
 * so that no command waits for it. It types nothing, and takes the console from nobody.
 *
 * Resolves to `absent` when the BMC has none or refuses it, to `ended` when it took it away. Rejects with the signal's
 * reason, with `bmc.busy` when somebody else has the console or no session is left, and with the errors of a login.
 */
export async function followConsole(
  endpoint: BmcEndpoint,
  deps: SessionDeps,
  onOutput: ConsoleListener,
  signal: AbortSignal,
): Promise<'absent' | 'ended'> {
  const session = await Session.open(endpoint, deps, signal);
  try {
    const ask = async (request: IpmiRequest): Promise<IpmiResponse> => {
      const response = await session.exchange(request, signal);
      if (response === undefined) throw bmcError('bmc.unreachable', endpoint, `did not answer ${request.name}`);
      return response;
    };
    const question = consoleEnabled();
    const { completionCode: refusal, data } = await ask(question.request);
    if (refusal !== 0 || !question.decode(data)) return 'absent';

    const ended = new AbortController();
    const stream = new ConsoleStream();
    session.hearConsole((packet) => {
      const output = stream.take(packet);
      if (output?.acknowledgement !== undefined) void session.sendConsole(output.acknowledgement);
      if (output !== undefined && (output.characters.length > 0 || output.lost))
        onOutput(output.characters, output.lost);
      if (output?.ended === true) ended.abort();
    });
    const activation = activateConsole();
    const { completionCode } = await ask(activation);
    if (completionCode === IN_USE) throw bmcError('bmc.busy', endpoint, 'has given its console to somebody else');
    if (completionCode !== 0) {
      const error = refused(endpoint, activation, completionCode);
      if (error.code === 'bmc.busy') throw error;
      return 'absent';
    }
    try {
      await keepAlive(() => ask(deviceId().request), deps, AbortSignal.any([signal, ended.signal]));
    } catch (error) {
      if (error !== ended.signal.reason) throw error;
    } finally {
      await session.tell(deactivateConsole());
    }
    return 'ended';
  } finally {
    await session.close();
  }
}

/** Until the signal aborts, with its reason; a console prints nothing for hours, and the BMC would end the session. */
async function keepAlive(ask: () => Promise<unknown>, { clock }: SessionDeps, signal: AbortSignal): Promise<never> {
  for (;;) {
    await clock.sleepUntil(clock.now() + KEEP_ALIVE, signal);
    await ask();
  }
}

/** §24.1, completion code: the payload is active in another session, maybe one of ours that a crash has left behind. */
const IN_USE = 0x80;

/** BMCs end a session after 60 s ± 3 s of silence (IPMI 2.0 §6.12.15); `ipmi_sim` after 30 s. */
const KEEP_ALIVE: Millis = 20 * SECOND;
