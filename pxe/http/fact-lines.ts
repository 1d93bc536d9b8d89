import type { FieldError } from '../../appliance/kernel/errors.ts';
import { RackstartError } from '../../appliance/kernel/errors.ts';

/** A key that may come any number of times: takes each value, and says whether it is well-formed. */
export interface FactList {
  /** For the complaint about one that is not. */
  readonly form: string;
  readonly take: (value: string) => boolean;
  /** Of one value, in characters; 512 where it does not say. */
  readonly longest?: number;
}

/**
 * Reads what the ramdisk tells of a machine, `key=value` lines: each key of `forms` once at most, in that form (an absent one is
 * the empty text), those of `lists` any number of times, no others. Error: `request.invalid`, one complaint a line.
 */
export function readFactLines<Key extends string>(
  what: string,
  text: string,
  forms: Readonly<Record<Key, RegExp>>,
  lists: Readonly<Record<string, FactList>> = {},
): Readonly<Record<Key, string>> {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  if (lines.length > MAX_LINES) {
    throw new RackstartError('request.invalid', `${what} has at most ${String(MAX_LINES)} lines.`);
  }
  const complaints: FieldError[] = [];
  const fields = new Map<string, string>();
  for (const [index, line] of lines.entries()) {
    const [, key = '', value = ''] = /^([a-z_]{1,32})=([^\p{Cc}]*)\r?$/u.exec(line) ?? [];
    const complain = (message: string) => complaints.push({ field: `/lines/${index}`, message });
    const list = Object.hasOwn(lists, key) ? lists[key] : undefined;
    if (value.length > (list?.longest ?? LONGEST)) {
      complain(`must have at most ${String(list?.longest ?? LONGEST)} characters`);
    } else if (list !== undefined) {
      if (!list.take(value)) complain(`must be ${key}=${list.form}`);
    } else if (!Object.hasOwn(forms, key) || fields.has(key)) {
      complain('must be a known key, given once');
    } else {
      fields.set(key, value.trim());
    }
  }
  const read = Object.entries<RegExp>(forms).map(([key, form]) => {
    const value = fields.get(key) ?? '';
    if (!form.test(value)) complaints.push({ field: `/${key}`, message: `must match ${form.source}` });
    return [key, value];
  });
  if (complaints.length === 0) return Object.fromEntries(read) as Record<Key, string>;
  throw new RackstartError('request.invalid', `${what} is not well-formed.`, { fields: complaints.slice(0, 32) });
}

const MAX_LINES = 512;
const LONGEST = 512;
