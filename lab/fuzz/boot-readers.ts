import { RackstartError } from '../../appliance/kernel/errors.ts';
import { parseHealthCheck } from '../../pxe/http/health-check.ts';
import { parseInspection } from '../../pxe/http/inspection.ts';
import { printable, readForm } from '../../pxe/http/messages.ts';
import { parseWipedDisk } from '../../pxe/http/wiped-disk.ts';

/**
 * Has a body read as everything that it could be. Whatever it is, it is read or refused as invalid, and what was read
 * holds no control characters. Gives back how many readers took it.
 */
export function readBody(body: string, find: (what: string) => void): number {
  const text = printable(body);
  if (/[^\P{Cc}\n\t]/u.test(text)) find(`a log that no terminal should show: ${JSON.stringify(body)}`);
  const form = attempt(() => readForm(body), find);
  if (form !== undefined && Object.values(form).some((value) => /\p{Cc}/u.test(value) || !value.isWellFormed())) {
    find(`a value of more than one line: ${JSON.stringify(body)}`);
  }
  const inspection = attempt(() => parseInspection(body), find);
  if (inspection !== undefined && /\p{Cc}/u.test(JSON.stringify(inspection))) {
    find(`an inspection with control characters: ${JSON.stringify(body)}`);
  }
  const check = attempt(() => parseHealthCheck(body), find);
  if (check !== undefined && /\p{Cc}/u.test(JSON.stringify(check))) {
    find(`a check with control characters: ${JSON.stringify(body)}`);
  }
  const wiped = attempt(() => parseWipedDisk(body), find);
  if (wiped !== undefined && /\p{Cc}/u.test(JSON.stringify(wiped))) {
    find(`a certificate with control characters: ${JSON.stringify(body)}`);
  }
  return [form, inspection, check, wiped].filter((read) => read !== undefined).length;
}

function attempt<T>(read: () => T, find: (what: string) => void): T | undefined {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof RackstartError) || error.code !== 'request.invalid') find(`threw ${String(error)}`);
    return undefined;
  }
}
