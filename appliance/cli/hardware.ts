import { megabytes, table } from './text.ts';

export interface Firmware {
  readonly firmware: string | null;
  readonly firmwareVendor: string | null;
  readonly firmwareVersion: string | null;
  readonly firmwareDate: string | null;
}

export interface Disk {
  readonly name: string;
  readonly bytes: number;
  readonly type: string;
  readonly serial: string;
  readonly model: string;
  /** Percent of its life that are used. */
  readonly wear: number | null;
}

export interface Dimm {
  readonly slot: string;
  readonly mib: number;
  readonly serial: string;
}

/** `uefi, EDK II 2.7 of 2015-02-06`, as far as it is known. */
export function firmwareText({ firmware, firmwareVendor, firmwareVersion, firmwareDate }: Firmware): string | null {
  const made = [firmwareVendor, firmwareVersion, firmwareDate === null ? null : `of ${firmwareDate}`]
    .filter((part) => part !== null)
    .join(' ');
  return firmware === null || made === '' ? firmware : `${firmware}, ${made}`;
}

export function diskTable(disks: readonly Disk[]): string {
  const rows = disks.map(({ name, bytes, type, serial, model, wear }) => {
    return [name, megabytes(bytes), type, serial, model, wear === null ? null : `${String(wear)} %`];
  });
  return table(['disk', 'size', 'type', 'serial', 'model', 'worn'], rows);
}

export function dimmTable(dimms: readonly Dimm[]): string {
  const rows = dimms.map(({ slot, mib, serial }) => [slot, mib, serial]);
  return table(['module', 'MiB', 'serial'], rows);
}
