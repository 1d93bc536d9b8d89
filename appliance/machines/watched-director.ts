import type { Mac } from '../../pxe/boot-client.ts';
import type { BootDirector } from '../../pxe/boot-plan.ts';
import { tokenId } from '../../pxe/http/token.ts';
import type { EventLog } from '../events/event-log.ts';
import { MINUTE } from '../kernel/clock.ts';
import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Secret } from '../kernel/secret.ts';
import type { Reader, Store } from '../store/store.ts';

export interface WatchDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly clock: Clock;
}

/** Whose boot somebody tried to enter: a machine by its NIC, or a boot session by what the bearer says of itself. */
type Entered = { readonly mac: Mac } | { readonly sessionId: string | undefined };

/** At most one alert a machine in this time: nobody can flood the log of events by knocking. */
const PERIOD = 10 * MINUTE;

/** A director that alerts an engineer when a token or hardware was refused on a machine we know; otherwise `director` itself. */
export function watched(director: BootDirector, deps: WatchDeps): BootDirector {
  const watch = <T>(entered: Entered, answer: Promise<T>) => alertOnRefusal(deps, entered, answer);
  const session = (bearer: Secret) => ({ sessionId: tokenId(bearer) });
  return {
    async decide(client) {
      const decision = await director.decide(client);
      if (decision.verb === 'ignore' && decision.code !== undefined) {
        const message = `A boot of ${client.mac} was refused: ${decision.why}.`;
        await raise(deps, { mac: client.mac }, new RackstartError(decision.code, message));
      }
      return decision;
    },
    script: (mac, token) => watch({ mac }, director.script(mac, token)),
    claim: (claim) => watch({ mac: claim.mac }, director.claim(claim)),
    report: (bearer, report) => watch(session(bearer), director.report(bearer, report)),
    log: (bearer, text) => watch(session(bearer), director.log(bearer, text)),
    inspection: (bearer, inspection) => watch(session(bearer), director.inspection(bearer, inspection)),
    check: (bearer, check) => watch(session(bearer), director.check(bearer, check)),
    wiped: (bearer, disk) => watch(session(bearer), director.wiped(bearer, disk)),
    files: (bearer) => watch(session(bearer), director.files(bearer)),
    next: (bearer, generation, signal) => watch(session(bearer), director.next(bearer, generation, signal)),
  };
}

async function alertOnRefusal<T>(deps: WatchDeps, entered: Entered, answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof RackstartError && suspicious.has(error.code)) await raise(deps, entered, error);
    throw error;
  }
}

const suspicious: ReadonlySet<string> = new Set(['boot.token-refused', 'boot.mismatch']);

async function raise(
  { store, events, clock }: WatchDeps,
  entered: Entered,
  { code, message }: RackstartError,
): Promise<void> {
  const subject = await machineOf(store.read, entered);
  if (subject === undefined) return;
  const at = clock.now();
  await store.transaction(async (tx) => {
    const { numInsertedOrUpdatedRows } = await tx
      .insertInto('timeline')
      .values({
        id: `refused_${subject}_${String(Math.floor(at / PERIOD))}`,
        machine_id: subject,
        session_id: null,
        at,
        source: 'alert',
        name: 'refused',
        detail: JSON.stringify({ code }),
      })
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    if (numInsertedOrUpdatedRows !== 1n) return;
    await events.append(tx, 'alert.raised', { key: subject, actor: 'boot', data: { subject, code, message } });
  });
}

async function machineOf(read: Reader, entered: Entered): Promise<string | undefined> {
  if ('mac' in entered) {
    const nic = await read
      .selectFrom('machine_nics')
      .select('machine_id')
      .where('mac', '=', entered.mac)
      .executeTakeFirst();
    return nic?.machine_id;
  }
  if (entered.sessionId === undefined) return undefined;
  const session = await read
    .selectFrom('boot_sessions')
    .select('machine_id')
    .where('id', '=', entered.sessionId)
    .executeTakeFirst();
  return session?.machine_id;
}
