import { Type } from 'typebox';
import type { Static } from 'typebox';
import { Value } from 'typebox/value';
import { parse } from 'yaml';

import { ImagesConfig } from '../images/images-config.ts';
import { RackstartError } from './kernel/errors.ts';
import { SimulationConfig } from './providers/simulation/simulation-config.ts';

const Port = Type.Integer({ minimum: 0, maximum: 65_535 });
const Duration = Type.Integer({ minimum: 1, description: 'milliseconds' });

/** As people write it, in YAML. */
const ConfigFile = Type.Object(
  {
    state: Type.String({ description: 'Directory for the database, keys, CA and images; made when missing.' }),
    store: Type.Optional(Type.String({ description: 'sqlite:FILE or postgres://…; default: sqlite in `state`.' })),
    redis: Type.Optional(
      Type.String({
        pattern: '^(rediss?://|/)',
        description:
          'redis://…, rediss://… or the path of a socket: daemons on one PostgreSQL then hear of each other at once.',
      }),
    ),
    masterKey: Type.Optional(
      Type.String({ description: 'File with the master key; default: `master.key` in `state`.' }),
    ),
    ramdisk: Type.String({ description: 'Directory with vmlinuz and initrd.' }),
    log: Type.Optional(
      Type.Union([Type.Literal('debug'), Type.Literal('info'), Type.Literal('warn'), Type.Literal('error')]),
    ),
    api: Type.Object(
      {
        host: Type.Optional(Type.String()),
        port: Type.Optional(Port),
        rateLimit: Type.Optional(
          Type.Object(
            {
              perSecond: Type.Optional(Type.Number({ minimum: 0.1, maximum: 100_000 })),
              burst: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
            },
            { additionalProperties: false, description: 'Of each API key, and of each address without a valid one.' },
          ),
        ),
        trustedProxies: Type.Optional(
          Type.Array(Type.String({ pattern: '^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$' }), {
            maxItems: 32,
            description: 'Addresses and CIDRs whose X-Forwarded-For is believed; default: loopback.',
          }),
        ),
      },
      { additionalProperties: false },
    ),
    targets: Type.Optional(
      Type.Object(
        {
          deploySeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
          deployMedianSeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
        },
        {
          additionalProperties: false,
          description: 'From the API call to SSH: what 99 in 100 may take, and one in two.',
        },
      ),
    ),
    images: Type.Optional(ImagesConfig),
    console: Type.Optional(
      Type.Boolean({ description: 'Whether to keep what booting machines print on their serial consoles.' }),
    ),
    keep: Type.Optional(
      Type.Object(
        { timelineDays: Type.Optional(Type.Integer({ minimum: 1, maximum: 3_650 })) },
        { additionalProperties: false, description: 'How long the timelines of boots are kept.' },
      ),
    ),
    provisioning: Type.Array(
      Type.Object(
        {
          device: Type.String({ pattern: '^[A-Za-z0-9_.-]{1,15}$', description: 'The one NIC that is served.' }),
          address: Type.String({ description: "The appliance's own IPv4 address on it." }),
          prefix6: Type.Optional(Type.String({ description: 'IPv6 prefix to advertise, e.g. fd77::/64.' })),
          httpPort: Type.Optional(Port),
          httpsPort: Type.Optional(Port),
          arm64Loader: Type.Optional(
            Type.String({ description: 'An iPXE for arm64 (snponly.efi): Debian 12 has none.' }),
          ),
          dhcp: Type.Optional(
            Type.Union([Type.Literal('server'), Type.Literal('proxy')], {
              description: 'proxy: another DHCP server gives the addresses there; we say what to boot.',
            }),
          ),
          relays: Type.Optional(
            Type.Array(
              Type.Object(
                {
                  address: Type.String({
                    format: 'ipv4',
                    description: "A DHCP relay's address on its clients' network, which is in a provisioning subnet.",
                  }),
                  from: Type.Optional(
                    Type.String({
                      format: 'ipv4',
                      description: 'Where its datagrams come from; default: that address.',
                    }),
                  ),
                },
                { additionalProperties: false },
              ),
            ),
          ),
        },
        { additionalProperties: false },
      ),
      { maxItems: 1 },
    ),
    fairness: Type.Optional(
      Type.Object(
        {
          perTenant: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000 })),
          inAll: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000 })),
        },
        { additionalProperties: false, description: 'How many requests are worked on at once.' },
      ),
    ),
    requests: Type.Optional(
      Type.Object(
        {
          hedge: Type.Optional(
            Type.Boolean({
              description: 'Whether a deploy that takes unusually long is tried on a second machine beside.',
            }),
          ),
          watchdog: Type.Optional(
            Type.Boolean({
              description: 'Whether BMCs reset machines that stand still while a server is installed on them.',
            }),
          ),
        },
        { additionalProperties: false },
      ),
    ),
    retry: Type.Optional(
      Type.Object(
        { attempts: Type.Optional(Type.Integer({ minimum: 0, maximum: 100 })) },
        {
          additionalProperties: false,
          description: 'How often what failed in passing is tried again: after 5, 10, 20 s … at most 5 min.',
        },
      ),
    ),
    simulation: Type.Optional(SimulationConfig),
    manual: Type.Optional(Type.Boolean({ description: 'Whether servers may be ordered that a person makes.' })),
    discovery: Type.Optional(
      Type.Object(
        {
          inspect: Type.Optional(
            Type.Boolean({ description: 'Whether unknown machines that boot from the network are inspected.' }),
          ),
          most: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
        },
        { additionalProperties: false },
      ),
    ),
    pool: Type.Optional(
      Type.Object(
        {
          keep: Type.Optional(
            Type.Boolean({ description: 'Whether machines are warmed for the orders that are expected.' }),
          ),
          serviceLevel: Type.Optional(Type.Number({ minimum: 0.5, maximum: 0.9999 })),
          floor: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
          ceiling: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
          warmUp: Type.Optional(Duration),
          warmingPerRack: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
          rolledAtOnce: Type.Optional(Type.Integer({ minimum: 0, maximum: 1000 })),
          imageAhead: Type.Optional(
            Type.Boolean({ description: 'Whether a machine that waits has the likely image written to its disk.' }),
          ),
        },
        { additionalProperties: false },
      ),
    ),
    deadlines: Type.Optional(
      Type.Object(
        {
          bootWindow: Type.Optional(Duration),
          stage: Type.Optional(Duration),
          stageFloor: Type.Optional(Duration),
          stageFactor: Type.Optional(Type.Number({ minimum: 1, maximum: 100 })),
          take: Type.Optional(Duration),
          parked: Type.Optional(Duration),
          verify: Type.Optional(Duration),
          progress: Type.Optional(Duration),
          orphan: Type.Optional(Duration),
          shutdown: Type.Optional(Duration),
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);

export type ConfigFile = Static<typeof ConfigFile>;

/** Errors: `config.invalid`, with one complaint a field. */
export function readConfigFile(text: string): ConfigFile {
  let value: unknown;
  try {
    value = parse(text);
  } catch (cause) {
    throw new RackstartError('config.invalid', 'The configuration is no valid YAML.', { cause });
  }
  if (Value.Check(ConfigFile, value)) return value;
  const fields = Value.Errors(ConfigFile, value).map(({ instancePath, message }) => ({
    field: instancePath || '/',
    message,
  }));
  const list = fields.map(({ field, message }) => `${field} ${message}`).join('; ');
  throw new RackstartError('config.invalid', `The configuration is wrong: ${list}.`, { fields });
}
