import { option } from './options.ts';
import type { Options } from './packet.ts';
import { encodedLength, FILE_LENGTH, SNAME_LENGTH } from './packet.ts';

export type OptionEntry = readonly [code: number, value: Uint8Array];

export interface ReplyOptions {
  /** Goes whatever the length, in this place … */
  readonly first: readonly OptionEntry[];
  /** … what the client asked for, in its order: as much as there is room for … */
  readonly asked: readonly OptionEntry[];
  /** … and goes in any case, behind everything else. */
  readonly last: readonly OptionEntry[];
  /** Bytes of message that the client takes. */
  readonly room: number;
  /** Whether the boot file's field is free for options. */
  readonly fileIsFree: boolean;
}

export interface Layout {
  readonly options: Options;
  /** Options inside the fields `file` and `sname` (RFC 2131 §4.1), told by option 52; each stands there whole. */
  readonly overload?: { readonly file: Options; readonly sname: Options };
}

/**
 * Finds a place for a reply's options. Nearly always all fit; when they don't, the fields of BOOTP that are free take
 * some, and what was asked for and still does not fit is left out. Nothing is ever cut short: a client that is sent more
 * than it said it takes may yet take it, one that is sent half a route may not.
 */
export function layOut({ first, asked, last, room, fileIsFree }: ReplyOptions): Layout {
  const all = new Map([...first, ...asked, ...last]);
  if (encodedLength(all) <= room) return { options: all };

  const file = { options: new Map<number, Uint8Array>(), left: fileIsFree ? FILE_LENGTH - 1 : 0 };
  const sname = { options: new Map<number, Uint8Array>(), left: SNAME_LENGTH - 1 };
  const required = [...first, ...last];
  let left = room - encodedLength(new Map([...required, [option.overload, Uint8Array.of(0)]]));
  const put = (entry: OptionEntry): boolean => {
    const field = [file, sname].find((each) => each.left >= sizeOf(entry));
    if (field === undefined) return false;
    field.options.set(...entry);
    field.left -= sizeOf(entry);
    return true;
  };
  const moved = new Set<number>();
  for (const entry of required.filter(([code]) => mayMove.has(code))) {
    if (left >= 0 || !put(entry)) continue;
    moved.add(entry[0]);
    left += sizeOf(entry);
  }
  const kept = asked.filter((entry) => {
    const fits = left >= sizeOf(entry);
    if (fits) left -= sizeOf(entry);
    else put(entry);
    return fits;
  });
  const fields = (file.options.size > 0 ? IN_FILE : 0) | (sname.options.size > 0 ? IN_SNAME : 0);
  const stays = ([code]: OptionEntry) => !moved.has(code);
  const options = new Map([...first.filter(stays), ...kept, ...last.filter(stays)]);
  if (fields === 0) return { options };
  // Told before the options that it moved, and never behind the boot file or the relay's option.
  const [type, ...others] = options;
  const told = new Map([...(type === undefined ? [] : [type]), [option.overload, Uint8Array.of(fields)], ...others]);
  return { options: told, overload: { file: file.options, sname: sname.options } };
}

// What a ROM, a relay or a hurried reader looks for must stand in the options themselves.
const mayMove: ReadonlySet<number> = new Set([option.clientId, option.machineId, option.tftpServer]);
const IN_FILE = 1;
const IN_SNAME = 2;

function sizeOf(entry: OptionEntry): number {
  return encodedLength(new Map([entry])) - encodedLength(new Map());
}
