import { isDeepStrictEqual } from 'node:util';

import { RackstartError } from '../kernel/errors.ts';
import type { Provider } from './provider.ts';
import { provisionSteps } from './provider.ts';
import type { ProviderProofSubject } from './provider-request-proof.ts';
import { ProvenRequest } from './provider-request-proof.ts';

export type { ProviderProofSubject, Trouble } from './provider-request-proof.ts';

export interface ProvenClause {
  readonly clause: string;
  /** What was wrong; empty is the proof. */
  readonly problems: readonly string[];
}

/**
 * The suite that every provider passes, whatever it provisions: what `Provider` and `Resource` promise, clause by clause, while
 * another request's server stands beside it, which must not notice.
 */
export async function proveProvider(subject: ProviderProofSubject): Promise<ProvenClause[]> {
  const bystander = await begin(subject);
  await bystander.make();
  const before = await bystander.holdings();
  const proven: ProvenClause[] = [];
  for (const [clause, examine] of Object.entries(clauses)) {
    const problems: string[] = [];
    try {
      await examine(subject, (problem) => void problems.push(problem));
    } catch (error) {
      problems.push(`it threw ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      subject.trouble?.(undefined);
    }
    proven.push({ clause, problems });
  }
  const problems: string[] = [];
  if (!same(await bystander.holdings(), before)) problems.push('what is held for another request has changed');
  for (const made of bystander.plan) {
    const found = await bystander.find(made);
    if (found !== undefined && !same(found, bystander.refs.get(made.name)))
      problems.push(`its ${made.name} is another one`);
  }
  await bystander.unmake();
  return [...proven, { clause: 'requests do not touch each other', problems }];
}

type Complain = (problem: string) => void;
type Examine = (subject: ProviderProofSubject, complain: Complain) => Promise<void>;

const clauses: Readonly<Record<string, Examine>> = {
  'a plan is the same for the same request, its names are unique, and each stands after its own step': async (
    subject,
    complain,
  ) => {
    const { provider } = subject;
    const spec = await subject.request();
    const names = (plan: ReturnType<Provider['plan']>) =>
      provisionSteps.map((step) => plan[step].resources.map(({ name, after }) => ({ name, after })));
    const plan = names(provider.plan(spec));
    if (!same(plan, names(provider.plan(spec)))) complain('it is another one the second time');
    const all = plan.flat().map(({ name }) => name);
    for (const name of new Set(all.filter((one, index) => all.indexOf(one) !== index)))
      complain(`two are named ${name}`);
    for (const step of plan) {
      for (const [index, { name, after }] of step.entries()) {
        const earlier = step.slice(0, index).map((other) => other.name);
        const missing = after.find((other) => !earlier.includes(other));
        if (missing !== undefined)
          complain(`${name} stands after ${missing}, which does not come before it in its step`);
      }
    }
    const standsIn = provider.clusters.some(({ name }) => name === spec.cluster);
    if (provider.clusters.length === 0 ? spec.cluster !== null : !standsIn) complain('the cluster is none of its own');
  },

  'what was created is found, or created again as the same, and is not there twice': async (subject, complain) => {
    const request = await begin(subject);
    for (const made of request.plan) {
      if ((await request.find(made)) !== undefined) complain(`${made.name} is found before it was created`);
      const ref = await request.create(made);
      const held = await request.holdings();
      const found = await request.find(made);
      if (found !== undefined && !same(found, ref)) complain(`${made.name} is found as another one`);
      const again = await request.create(made);
      // A proof says when it was made, and holds nothing.
      if (made.step !== 'verify' && !same(again, ref)) complain(`${made.name} is another one the second time`);
      if (!same(await request.holdings(), held)) complain(`${made.name} is held twice`);
    }
    await request.unmake();
  },

  'what was never created can be deleted': async (subject, complain) => {
    const request = await begin(subject);
    for (const made of request.plan.toReversed()) await request.delete(made, undefined);
    if ((await request.holdings()).length > 0) complain('it holds something');
  },

  'what was half created, or never recorded, is deleted without its reference': async (subject, complain) => {
    for (const [index, half] of (await begin(subject)).plan.entries()) {
      const request = await begin(subject);
      for (const made of request.plan.slice(0, index)) await request.create(made);
      const last = request.plan[index];
      if (last === undefined) continue;
      await request.createOnce(last);
      await request.delete(last, undefined);
      for (const made of request.plan.slice(0, index).toReversed())
        await request.delete(made, request.refs.get(made.name));
      for (const { kind, id } of await request.holdings())
        complain(`${kind} ${id} is left of a half made ${half.name}`);
    }
  },

  'what was deleted can be deleted again, and is not found': async (subject, complain) => {
    const request = await begin(subject);
    await request.make();
    for (const made of request.plan.toReversed()) {
      await request.delete(made, request.refs.get(made.name));
      if ((await request.find(made)) !== undefined) complain(`${made.name} is still found`);
      await request.delete(made, request.refs.get(made.name));
    }
    for (const { kind, id } of await request.holdings()) complain(`${kind} ${id} is still held`);
  },

  'what is held for a request is named, and its holdings say so while it is': async (subject, complain) => {
    const { provider } = subject;
    if (provider.held({}).length > 0) complain('something is held before anything was made');
    const request = await begin(subject);
    await request.make();
    const held = provider.held(Object.fromEntries(request.refs));
    if (held.length === 0) complain('nothing is named');
    if (held.some(({ resource, id }) => resource === '' || id === '')) complain('something is held that has no name');
    const holdings = await request.holdings();
    if (!provider.capabilities.listsHoldings && holdings.length > 0) complain('it lists what it says it can not');
    for (const { resource, id } of provider.capabilities.listsHoldings ? held : []) {
      if (!holdings.some((one) => one.kind === resource && one.id === id))
        complain(`${resource} ${id} is not in its holdings`);
    }
    const named = new Set(holdings.map(({ cluster, kind, id }) => JSON.stringify([cluster, kind, id])));
    if (named.size < holdings.length) complain('two of its holdings have one name');
    await request.unmake();
    for (const { kind, id } of await request.holdings()) complain(`${kind} ${id} is held after it was given back`);
  },

  'what is held can be removed from outside, and again': async (subject, complain) => {
    const request = await begin(subject);
    await request.make();
    const holdings = await request.holdings();
    for (const held of [...holdings, ...holdings]) await request.remove(held);
    for (const { kind, id } of await request.holdings()) complain(`${kind} ${id} is still held`);
    await request.unmake();
  },

  'a server that was made can be reached by what its connection says': async (subject, complain) => {
    const { provider } = subject;
    const request = await begin(subject);
    await request.make();
    const connection = provider.connection(Object.fromEntries(request.refs));
    const { username, addresses, hostKey, endpoints = {} } = connection;
    if (username === '') complain('it has no user');
    const places = [...addresses, ...Object.values(endpoints)];
    if (places.length === 0 || places.includes('')) complain('it has no address');
    if (hostKey !== null && !/^[a-z0-9@.-]+ [A-Za-z0-9+/]+=*$/.test(hostKey)) complain('its host key is none');
    if (provider.capabilities.provesSsh && hostKey === null) complain('it was proven by SSH, and has no host key');
    if (!same(connection, JSON.parse(JSON.stringify(connection)))) complain('it is no JSON');
    await request.unmake();
  },

  'a call that hangs ends when the signal says so': async (subject, complain) => {
    if (subject.trouble === undefined) return;
    const request = await begin(subject);
    let hung = 0;
    for (const made of request.plan) {
      subject.trouble('hang');
      const creation = await request.hangingCreate(made);
      subject.trouble(undefined);
      if (creation === 'goes on') complain(`creating ${made.name} does not end`);
      if (creation !== 'ended by itself') hung += 1;
      await request.create(made);
    }
    for (const made of request.plan.toReversed()) {
      subject.trouble('hang');
      const deletion = await request.hangingDelete(made);
      subject.trouble(undefined);
      if (deletion === 'goes on') complain(`deleting ${made.name} does not end`);
      await request.delete(made, request.refs.get(made.name));
    }
    if (hung === 0) complain('nothing hung: this shows nothing');
    for (const { kind, id } of await request.holdings()) complain(`${kind} ${id} is left over`);
  },

  'an error says whether the same may succeed later, and nothing is left of it': async (subject, complain) => {
    if (subject.trouble === undefined) return;
    for (const kind of ['passing', 'permanent'] as const) {
      const request = await begin(subject);
      let failed = 0;
      for (const made of request.plan) {
        subject.trouble(kind);
        const error = await request.createOnce(made).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        subject.trouble(undefined);
        if (error !== undefined) failed += 1;
        if (error !== undefined && !(error instanceof RackstartError))
          complain(`${made.name} fails with no error of ours`);
        if (error instanceof RackstartError && error.transient !== (kind === 'passing'))
          complain(`${made.name} fails with ${error.code} where the failure is ${kind}`);
        await request.create(made);
      }
      if (failed === 0) complain(`nothing failed of a ${kind} failure: this shows nothing`);
      await request.unmake();
      for (const held of await request.holdings()) complain(`${held.kind} ${held.id} is left of a ${kind} failure`);
    }
  },
};

async function begin(subject: ProviderProofSubject): Promise<ProvenRequest> {
  return new ProvenRequest(subject, await subject.request());
}

function same(one: unknown, other: unknown): boolean {
  return isDeepStrictEqual(one, other);
}
