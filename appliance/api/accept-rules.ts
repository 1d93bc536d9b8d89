import { Type } from 'typebox';

import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import { Secret } from '../kernel/secret.ts';
import type { Discovery } from '../machines/enrolment/discovery.ts';
import { parseCidr } from '../network/address-range.ts';
import type { AcceptRuleRow } from '../store/schema.ts';
import type { Store } from '../store/store.ts';
import { doneBy } from './auth.ts';
import { bmcFields } from './bmc-schemas.ts';
import { Id, IdParams, Name, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';
import { invalid } from './unique.ts';

export interface AcceptRuleRouteDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly discovery: Discovery;
  readonly seal: (id: string, password: Secret) => string;
}

const PATTERN = { minLength: 1, maxLength: 128, pattern: '^[ -~]+$' };
const Pattern = Type.String(PATTERN);
const criteria = {
  macPrefix: Type.Optional(
    Type.String({ pattern: '^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){0,5}$', description: 'How its MAC begins: 52:54:00.' }),
  ),
  vendor: Type.Optional(Pattern),
  model: Type.Optional(Pattern),
  firmwareVendor: Type.Optional(Pattern),
  firmwareVersion: Type.Optional(Pattern),
  subnet: Type.Optional(Id),
  switchPort: Type.Optional(
    Type.String({
      ...PATTERN,
      description:
        'What the switch says of itself and of the port by LLDP, where it boots: leaf-3/*. Anybody on the wire can say it.',
    }),
  ),
};
const Role = Type.Optional(Type.Enum(['both', 'provisioning']));

const NewRule = Type.Object(
  {
    name: Name,
    rack: Id,
    match: Type.Object(criteria, {
      ...strict,
      minProperties: 1,
      description: 'All that is given must hold; `*` is any text, in all but macPrefix and subnet.',
    }),
    namePrefix: Type.Optional(Type.String({ pattern: '^[a-z0-9]([a-z0-9.-]{0,30})$' })),
    role: Role,
    bmc: Type.Object(
      {
        ...bmcFields,
        network: Type.String({
          minLength: 1,
          maxLength: 64,
          description:
            'In CIDR form. The BMC address that a machine tells is believed within it alone: the password is sent there.',
        }),
      },
      strict,
    ),
  },
  {
    ...strict,
    description: 'Takes what boots in the region of its rack.',
  },
);

const MaybeText = Type.Union([Type.String(), Type.Null()]);
const Rule = Type.Object({
  ...{ id: Id, name: Type.String(), rack: Id },
  match: Type.Object({
    ...{ macPrefix: MaybeText, vendor: MaybeText, model: MaybeText, firmwareVendor: MaybeText },
    ...{ firmwareVersion: MaybeText, subnet: Type.Union([Id, Type.Null()]), switchPort: MaybeText },
  }),
  ...{ namePrefix: Type.String(), role: Type.String() },
  bmc: Type.Object({ kind: Type.String(), network: Type.String(), port: Type.Integer(), username: Type.String() }),
});

const tags = ['machines'];

/** Rules by which unknown machines are enrolled; an operator's alone. */
export function acceptRuleRoutes(api: Api, deps: AcceptRuleRouteDeps): void {
  const { store, events, clock, ids, discovery, seal } = deps;
  api.post(
    '/accept-rules',
    {
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary: 'Add a rule by which unknown machines are enrolled',
        body: NewRule,
        response: { 201: Rule, ...problems },
      },
    },
    async (request, reply) => {
      const { name, rack, match, namePrefix, role, bmc } = request.body;
      const { macPrefix, subnet } = match;
      const id = ids.next('rul');
      const row: AcceptRuleRow = {
        ...{ id, name, rack_id: rack, nic_role: role ?? 'both', name_prefix: namePrefix ?? `${name}-` },
        ...{ vendor: match.vendor ?? null, model: match.model ?? null, subnet_id: subnet ?? null },
        firmware_vendor: match.firmwareVendor ?? null,
        firmware_version: match.firmwareVersion ?? null,
        switch_port: match.switchPort ?? null,
        mac_prefix: macPrefix?.toLowerCase() ?? null,
        bmc_network: networkOf(bmc.network),
        bmc_kind: bmc.kind ?? 'ipmi',
        bmc_port: bmc.port ?? 623,
        bmc_username: bmc.username,
        bmc_password: seal(id, new Secret(bmc.password)),
        bmc_cipher_suite: bmc.cipherSuite ?? 17,
        created_at: clock.now(),
      };
      await store.transaction(async (tx) => {
        const known = await tx.selectFrom('racks').select('id').where('id', '=', rack).executeTakeFirst();
        if (known === undefined) throw invalid('/rack', 'There is no such rack.');
        const network =
          subnet === undefined ||
          (await tx.selectFrom('subnets').select('id').where('id', '=', subnet).executeTakeFirst());
        if (network === undefined) throw invalid('/match/subnet', 'There is no such subnet.');
        const { numInsertedOrUpdatedRows } = await tx
          .insertInto('accept_rules')
          .values(row)
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirst();
        if (numInsertedOrUpdatedRows !== 1n) throw invalid('/name', 'This is taken.');
        await events.append(tx, 'accept-rule.added', { key: id, ...doneBy(request), data: { ruleId: id, name } });
        tx.afterCommit(() => discovery.nudge());
      });
      return reply.code(201).send(presentRule(row));
    },
  );

  api.get(
    '/accept-rules',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'List the rules by which unknown machines are enrolled',
        response: { 200: Type.Object({ rules: Type.Array(Rule) }), ...problems },
      },
    },
    async () => {
      const rows = await store.read.selectFrom('accept_rules').selectAll().orderBy('name').execute();
      return { rules: rows.map(presentRule) };
    },
  );

  api.delete(
    '/accept-rules/:id',
    {
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary: 'Remove a rule; what it has enrolled stays',
        params: IdParams,
        response: { 204: Type.Null(), ...problems },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      await store.transaction(async (tx) => {
        const rule = await tx.deleteFrom('accept_rules').where('id', '=', id).returning('name').executeTakeFirst();
        if (rule === undefined) throw new RackstartError('not-found', `There is no rule ${id}.`);
        const data = { ruleId: id, name: rule.name };
        await events.append(tx, 'accept-rule.removed', { key: id, ...doneBy(request), data });
      });
      return reply.code(204).send(null);
    },
  );
}

function networkOf(text: string): string {
  try {
    return parseCidr(text).text;
  } catch (error) {
    throw error instanceof RackstartError ? invalid('/bmc/network', error.message) : error;
  }
}

function presentRule(row: AcceptRuleRow) {
  const { id, name, rack_id: rack, mac_prefix: macPrefix, vendor, model, subnet_id: subnet } = row;
  const { firmware_vendor: firmwareVendor, firmware_version: firmwareVersion, switch_port: switchPort } = row;
  return {
    ...{ id, name, rack, namePrefix: row.name_prefix, role: row.nic_role },
    match: { macPrefix, vendor, model, firmwareVendor, firmwareVersion, subnet, switchPort },
    bmc: { kind: row.bmc_kind, network: row.bmc_network, port: row.bmc_port, username: row.bmc_username },
  };
}
