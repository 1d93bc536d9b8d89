import type { Triangle } from '../../appliance/kernel/seeded.ts';
import { seconds } from './delays.ts';

/** One kind of server. The names are nobody's. */
export interface HardwareModel {
  readonly vendor: string;
  readonly name: string;
  readonly firmware: 'bios' | 'uefi';
  readonly cores: number;
  readonly memoryMib: number;
  readonly diskGib: number;
  /** From power-on to the first packet: memory training, option ROMs. 8 to 20 s, the longer the more memory. */
  readonly post: Triangle;
}

/** What a fleet is made of, in equal parts, in this order. */
export const hardwareModels: readonly HardwareModel[] = [
  model('Edge 100', 'bios', 4, 8, seconds(8, 9, 11)),
  model('Compute 200', 'uefi', 8, 32, seconds(9, 11, 14)),
  model('Compute 400', 'uefi', 32, 128, seconds(11, 13, 17)),
  model('Storage 800', 'bios', 16, 64, seconds(13, 16, 20)),
];

function model(
  name: string,
  firmware: HardwareModel['firmware'],
  cores: number,
  memoryGib: number,
  post: Triangle,
): HardwareModel {
  return { vendor: 'Rackstart', name, firmware, cores, memoryMib: memoryGib * 1024, diskGib: 64 * cores, post };
}
