import type { EventLog } from '../../events/event-log.ts';
import { HOUR } from '../../kernel/clock.ts';
import type { Millis } from '../../kernel/clock.ts';
import { RackstartError } from '../../kernel/errors.ts';
import { planned, resourcePlan } from '../../saga/resource-plan.ts';
import type { Resource } from '../../saga/resource-plan.ts';
import { done, wait } from '../../saga/step.ts';
import type { Provider, ServerSpec } from '../provider.ts';
import type { probeSsh } from '../ssh-probe.ts';
import type { SshProof } from '../proven-ssh.ts';
import { proveSsh } from '../proven-ssh.ts';
import type { AccessDetails } from './access-details.ts';
import { askForAccess, closeAccess } from './access-entry.ts';

export interface ManualDeps {
  readonly events: EventLog;
  /** Of the verification by SSH. */
  readonly deadline: Millis;
  readonly probe: typeof probeSsh;
}

interface Entry {
  readonly attemptId: string;
}

/**
 * Servers that a person sets up, by whatever means: allocate asks for one, activate waits until an operator has entered how
 * it is reached (`POST /access-entries/ID`), verify tries that. Network and firewall are that person's too: configure is empty.
 */
export function manual(deps: ManualDeps): Provider {
  const resources = { entry: askedFor(deps), access: entered(deps), ssh: verified(deps) };
  return {
    type: 'manual',
    capabilities: { provesSsh: false, listsHoldings: true, waitsForPeople: true },
    clusters: [],

    plan: (spec) => ({
      allocate: resourcePlan(planned('entry', resources.entry, spec)),
      configure: resourcePlan(),
      activate: resourcePlan(planned('access', resources.access, spec)),
      verify: resourcePlan(
        planned('ssh', resources.ssh, (refs) => ({ spec, access: refs.get<AccessDetails>('access') })),
      ),
    }),

    held(refs) {
      const entry = refs['entry'] as Entry | undefined;
      return entry === undefined ? [] : [{ resource: 'access-entry', id: entry.attemptId }];
    },

    connection(refs) {
      const { username, addresses, hostKey } = refs['access'] as AccessDetails;
      return { username, addresses, hostKey };
    },

    async holdings({ read }) {
      const entries = await read.selectFrom('access_entries').select('attempt_id').execute();
      return entries.map(({ attempt_id: id }) => {
        return { cluster: null, kind: 'access-entry', id, madeFor: { attemptId: id } };
      });
    },

    remove: ({ id }, ctx) => ctx.transaction((tx) => closeAccess(tx, deps.events, id, 'sweep')),
  };
}

/** A person is asked, and told when it was for nothing. */
function askedFor({ events }: ManualDeps): Resource<ServerSpec, Entry, undefined> {
  return {
    async create(_key, spec, ctx) {
      await ctx.transaction((tx) => askForAccess(tx, events, spec, ctx.clock.now()));
      return done({ attemptId: spec.attemptId });
    },

    async find(_key, ctx) {
      const entry = await entryOf(ctx);
      return entry && { attemptId: entry.attempt_id };
    },

    async delete(_key, _entry, ctx) {
      await ctx.transaction((tx) => closeAccess(tx, events, ctx.subject, 'saga'));
      return done();
    },
  };
}

/** Waits for as long as people take. What was entered goes with the entry. */
function entered({ events }: ManualDeps): Resource<ServerSpec, AccessDetails, undefined> {
  return {
    async create(_key, { attemptId }, ctx) {
      const since = await events.position();
      const entry = await entryOf(ctx);
      if (entry === undefined) throw new RackstartError('internal', `Nobody was asked for attempt ${attemptId}.`);
      if (entry.connection !== null) return done(JSON.parse(entry.connection) as AccessDetails);
      return wait(ctx.clock.now() + HOUR, { type: 'access.entered', key: attemptId, since });
    },
    find: () => Promise.resolve(undefined),
    delete: () => Promise.resolve(done()),
  };
}

/** The same proof as bare metal's, where the server can be reached from here; else a person's word. Holds nothing. */
function verified(
  deps: ManualDeps,
): Resource<{ spec: ServerSpec; access: AccessDetails }, SshProof | { taken: 'on-word' }, undefined> {
  return {
    async create(_key, { spec, access: { verify, username, addresses, hostKey } }, ctx) {
      if (!verify) return done({ taken: 'on-word' });
      const [host] = addresses;
      const [publicKey] = spec.sshKeys;
      if (host === undefined || hostKey === null || publicKey === undefined) {
        throw new RackstartError('internal', 'Access details were entered without what SSH needs.');
      }
      const { probe, deadline } = deps;
      return proveSsh(
        { host, port: 22, username, hostKey, publicKey },
        { probe, until: ctx.startedAt + deadline },
        ctx,
      );
    },
    find: () => Promise.resolve(undefined),
    delete: () => Promise.resolve(done()),
  };
}

function entryOf({ read, subject }: Parameters<Resource<unknown, unknown, undefined>['find']>[1]) {
  return read.selectFrom('access_entries').selectAll().where('attempt_id', '=', subject).executeTakeFirst();
}
