import type { Static } from 'typebox';
import { Type } from 'typebox';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { OrderLines, Report } from '../boot-plan.ts';
import { reportStages } from '../boot-plan.ts';

/** The version of the boot protocol that this appliance speaks. */
export const PROTOCOL = '1';

// Forms carry text alone: numbers are checked as digits here and read with Number() behind it.
const whole = Type.String({ pattern: '^[0-9]{1,15}$' });
const decimal = Type.String({ pattern: '^[0-9]{1,12}(\\.[0-9]{1,6})?$' });
const UUID = '[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}';
const uuid = Type.String({ pattern: `^${UUID}$` });
const machineId = Type.String({ pattern: '^[0-9a-f]{32}$' });
const hostKey = Type.String({ pattern: '^[a-z0-9@.-]{1,64} [A-Za-z0-9+/]{16,4096}={0,2}( .{0,256})?$' });
const line = Type.String({ maxLength: 1024 });
const macText = Type.String({ minLength: 17, maxLength: 17 });
const closed = { additionalProperties: false };

export const claimForm = Type.Object(
  {
    protocol: Type.Literal(PROTOCOL),
    token: Type.String({ minLength: 1, maxLength: 256 }),
    nonce: machineId,
    mac: macText,
    // Firmware that knows no UUID sends none; whether that is acceptable is for the director to say.
    uuid: Type.String({ pattern: `^(${UUID})?$` }),
    ramdisk: Type.Optional(Type.String({ pattern: '^[0-9a-f]{16}$' })),
  },
  closed,
);

export const reportForm = Type.Object(
  {
    generation: Type.String({ pattern: '^[0-9]{1,9}$' }),
    stage: Type.Enum(reportStages),
    status: Type.Enum(['started', 'progress', 'done', 'failed']),
    uptime: decimal,
    bytes: Type.Optional(whole),
    seconds: Type.Optional(decimal),
    root_bytes: Type.Optional(whole),
    host_key: Type.Optional(hostKey),
    machine_id: Type.Optional(machineId),
    code: Type.Optional(Type.String({ pattern: '^[a-z][a-z.-]{0,63}$' })),
  },
  { additionalProperties: line, propertyNames: { pattern: '^[a-z][a-z0-9_]{0,31}$' }, maxProperties: 24 },
);

export const phoneHomeForm = Type.Object(
  {
    protocol: Type.Literal(PROTOCOL),
    server: Type.String({ minLength: 1, maxLength: 64 }),
    hostname: Type.String({ minLength: 1, maxLength: 64 }),
    machine_id: machineId,
    host_key: hostKey,
    boot_id: uuid,
    uptime: decimal,
    started: decimal,
  },
  closed,
);

export const heartbeatForm = Type.Object(
  {
    protocol: Type.Literal(PROTOCOL),
    server: Type.String({ minLength: 1, maxLength: 64 }),
    uptime: decimal,
    load1: decimal,
    memory_total_kib: whole,
    memory_available_kib: whole,
    disk_total_kib: whole,
    disk_used_kib: whole,
  },
  closed,
);

export const nextQuery = Type.Object({ generation: Type.String({ pattern: '^[0-9]{1,9}$' }) }, closed);
export const scriptQuery = Type.Object({ token: Type.Optional(Type.String({ maxLength: 256 })) });
export const scriptParams = Type.Object({ mac: macText });

export function asReport({ generation, stage, status, uptime, ...facts }: Static<typeof reportForm>): Report {
  return { generation: Number(generation), stage, status, uptime: Number(uptime), facts };
}

/**
 * An application/x-www-form-urlencoded body. Every value becomes one line: what a machine reads from its firmware may
 * hold anything, and a reason for a failure is worth more than its control characters.
 */
export function readForm(body: string): Record<string, string> {
  const form = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(body)) {
    if (form.has(name)) {
      const fields = [{ field: `/${name.slice(0, 64)}`, message: 'must be given once' }];
      throw new RackstartError('request.invalid', 'A field was given more than once.', { fields });
    }
    form.set(name, oneLine(value));
  }
  return Object.fromEntries(form);
}

/** Text that a person may print to a terminal: no control characters but newline and tab. */
export function printable(text: string): string {
  return text.toWellFormed().replaceAll(/[^\P{Cc}\n\t]/gu, '�');
}

/** `key=value` lines, as the ramdisk reads them. A value that would make another line is a defect of ours. */
export function orderText(lines: OrderLines): string {
  return Object.entries(lines)
    .map(([key, value]) => {
      if (/^[a-z][a-z0-9_]*$/.test(key) && !/\p{Cc}/u.test(value)) return `${key}=${value}\n`;
      throw new RackstartError('internal', `The order's ${key} is not one line.`);
    })
    .join('');
}

function oneLine(text: string): string {
  return text.toWellFormed().replaceAll(/\p{Cc}/gu, ' ');
}
