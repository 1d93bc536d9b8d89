import { Doorbell } from '../../events/doorbell.ts';
import type { EventLog } from '../../events/event-log.ts';
import type { Clock } from '../../kernel/clock.ts';
import { SECOND } from '../../kernel/clock.ts';
import { RackstartError, asRackstartError } from '../../kernel/errors.ts';
import type { Ids } from '../../kernel/ids.ts';
import type { Log } from '../../kernel/log.ts';
import type { Secret } from '../../kernel/secret.ts';
import type { Service } from '../../kernel/service.ts';
import type { AcceptRuleRow, DiscoveredMachineRow, ExpectedMachineRow } from '../../store/schema.ts';
import type { Store, Tx } from '../../store/store.ts';
import type { NewMachine } from '../enrol.ts';
import { enrolMachine } from '../enrol.ts';
import type { MachineCare } from '../machine-care.ts';
import { raiseIssue } from '../machine-issues.ts';
import type { Match, Stranger } from './matching.ts';
import { matchOf, takenBy } from './matching.ts';
import { claimExpected } from './own-rows.ts';
import { enrolledMachines, factsOf, knownWorld } from './strangers.ts';

export interface DiscoveryServiceDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly care: MachineCare;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly seal: (id: string, password: Secret) => string;
  readonly unseal: (id: string, sealed: string) => Secret;
}

/** Who takes a machine in. */
interface By {
  readonly actor: string;
  readonly origin?: string | undefined;
}

const LOOK_EVERY = 10 * SECOND;

/**
 * Enrols the machines that wait, once the manifest or a rule knows them, and says of the others why not. It goes by the tables alone:
 * whatever was killed, the next look finds the same.
 */
export class Discovery implements Service {
  readonly name = 'discovery';
  readonly #deps: DiscoveryServiceDeps;
  readonly #bell = new Doorbell();

  constructor(deps: DiscoveryServiceDeps) {
    this.#deps = deps;
  }

  /** Has it look now: a machine, a row or a rule has come. */
  nudge(): void {
    this.#bell.ring();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps;
    while (!signal.aborted) {
      this.#bell.clear();
      try {
        await this.look();
      } catch (error) {
        const { code, message } = asRackstartError(error);
        log.warn({ code, reason: message }, 'machines that wait could not be looked at');
      }
      await this.#bell.wait(clock, clock.now() + LOOK_EVERY, signal);
    }
  }

  async look(): Promise<void> {
    const { store } = this.#deps;
    const waits = await store.read
      .selectFrom('discovered_machines')
      .select('id')
      .where('state', '=', 'waiting')
      .execute();
    if (waits.length === 0) return;
    const world = await knownWorld(store.read);
    const matches = world.strangers.map((stranger) => ({ stranger, match: matchOf(stranger, world) }));
    for (const { stranger, match } of matches) await this.#settle(stranger, match);
  }

  /**
   * Takes in a machine on an operator's word, whatever manifest and rules say. Errors: `not-found`, `state.conflict` when it does not
   * wait or is taken for one that is enrolled; those of `enrolMachine`.
   */
  async accept(
    tx: Tx,
    id: string,
    { by, ...machine }: Pick<NewMachine, 'name' | 'rackId' | 'bmc'> & { nicRole: 'provisioning' | 'both'; by: By },
  ): Promise<string> {
    const row = await findDiscovered(tx, id);
    const facts = factsOf(row);
    if (row.state !== 'waiting' || facts === undefined) {
      throw new RackstartError('state.conflict', `The unknown machine ${id} is ${row.state}, and does not wait.`);
    }
    const taken = takenBy({ row, facts, regionId: '' }, await enrolledMachines(tx));
    if (taken !== undefined) throw new RackstartError('state.conflict', taken.why);
    const enrolled = await this.#enrol(tx, row, machine, by);
    if (enrolled === undefined)
      throw new RackstartError('state.conflict', `The unknown machine ${id} was taken in meanwhile.`);
    await claimExpected(tx, facts.serial, enrolled);
    return enrolled;
  }

  async #settle(stranger: Stranger, match: Match): Promise<void> {
    const { id, mac } = stranger.row;
    if (match.kind === 'expected' || match.kind === 'rule') {
      try {
        await this.#deps.store.transaction((tx) => this.#takeIn(tx, stranger, match));
      } catch (error) {
        const { code, message } = asRackstartError(error);
        if (code !== 'request.invalid' && code !== 'address.pool-empty' && code !== 'state.conflict') throw error;
        await this.#note(
          id,
          `${match.kind === 'rule' ? `Rule ${match.rule.name}` : 'The manifest'} knows it, and: ${message}`,
        );
      }
      return;
    }
    if (!(await this.#note(id, match.why)) || match.kind !== 'taken') return;
    const { store, events, ids, clock } = this.#deps;
    const { machineId, why } = match;
    const message = `An unknown machine booted as ${mac}. ${why}`;
    const { serial, uuid } = stranger.facts;
    const evidence = { discovered: id, mac, serial, uuid };
    await store.transaction((tx) =>
      raiseIssue(tx, events, ids, { machineId, type: 'unexpected-machine', message, evidence, at: clock.now() }),
    );
  }

  async #takeIn(tx: Tx, { row, facts }: Stranger, match: Match & { kind: 'expected' | 'rule' }): Promise<void> {
    if (match.kind === 'expected') {
      const { id: rowId, name, rack_id: rackId, nic_role: nicRole, bmc_address: address } = match.row;
      const machine = { name, rackId, nicRole, bmc: this.#bmcOf(match.row, address) };
      const machineId = await this.#enrol(tx, row, machine, { actor: 'manifest' });
      if (machineId === undefined) return;
      const { numUpdatedRows } = await tx
        .updateTable('expected_machines')
        .set({ machine_id: machineId })
        .where('id', '=', rowId)
        .where('machine_id', 'is', null)
        .where('updated_at', '=', match.row.updated_at)
        .executeTakeFirst();
      // All of it is undone, and the next look goes by the manifest as it is now.
      if (numUpdatedRows !== 1n) throw new RackstartError('state.conflict', 'The manifest was changed meanwhile.');
      return;
    }
    const { name_prefix: prefix, rack_id: rackId, nic_role: nicRole } = match.rule;
    const name = `${prefix}${facts.serial.toLowerCase().replaceAll(/[^a-z0-9-]+/g, '-')}`
      .replace(/-+$/, '')
      .slice(0, 63);
    const machine = { name, rackId, nicRole, bmc: this.#bmcOf(match.rule, match.bmcAddress) };
    await this.#enrol(tx, row, machine, { actor: `rule ${match.rule.name}` });
  }

  /** Undefined when somebody else has it, or it has told something else meanwhile. */
  async #enrol(
    tx: Tx,
    { id, mac, told_at }: Stranger['row'],
    { nicRole, ...machine }: Pick<NewMachine, 'name' | 'rackId' | 'bmc'> & { nicRole: 'provisioning' | 'both' },
    by: By,
  ): Promise<string | undefined> {
    const { care, clock } = this.#deps;
    // Written first: of two that take it in, one waits here, and then finds it taken.
    const { numUpdatedRows } = await tx
      .updateTable('discovered_machines')
      .set({ reason: null })
      .where('id', '=', id)
      .where('state', '=', 'waiting')
      .where('told_at', '=', told_at)
      .executeTakeFirst();
    if (numUpdatedRows !== 1n) return undefined;
    const nics = [{ mac: mac as NewMachine['nics'][number]['mac'], role: nicRole }];
    const whole = { ...machine, nics, diskRule: { minBytes: 0 } };
    const machineId = await enrolMachine(tx, this.#deps, whole, { ...by, at: clock.now() });
    await care.startInspection(tx, machineId);
    return machineId;
  }

  #bmcOf(row: ExpectedMachineRow | AcceptRuleRow, address: string): NewMachine['bmc'] {
    const { bmc_kind: kind, bmc_port: port, bmc_username: username, bmc_cipher_suite: cipherSuite } = row;
    return { kind, address, port, username, cipherSuite, password: this.#deps.unseal(row.id, row.bmc_password) };
  }

  /** True when it is another reason than before. */
  async #note(id: string, reason: string): Promise<boolean> {
    return this.#deps.store.transaction(async (tx) => {
      const { numUpdatedRows } = await tx
        .updateTable('discovered_machines')
        .set({ reason })
        .where('id', '=', id)
        .where('state', '=', 'waiting')
        .where((eb) => eb.or([eb('reason', 'is', null), eb('reason', '!=', reason)]))
        .executeTakeFirst();
      return numUpdatedRows === 1n;
    });
  }
}

/** Error: `not-found`. */
export async function findDiscovered(read: Pick<Tx, 'selectFrom'>, id: string): Promise<DiscoveredMachineRow> {
  const row = await read.selectFrom('discovered_machines').selectAll().where('id', '=', id).executeTakeFirst();
  if (row === undefined) throw new RackstartError('not-found', `There is no unknown machine ${id}.`);
  return row;
}
