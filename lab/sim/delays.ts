import { SECOND } from '../../appliance/kernel/clock.ts';
import type { Triangle } from '../../appliance/kernel/seeded.ts';

/** What a machine does by itself, and takes its time for. `post` is the model's own: see `models.ts`. */
export type Delayed =
  | 'retry'
  | 'ipxe'
  | 'ramdisk'
  | 'disk'
  | 'image'
  | 'grow'
  | 'inject'
  | 'kexec'
  | 'system'
  | 'inspect'
  | 'check'
  | 'wipe';

/**
 * How long real servers take, network and appliance not counted: kernel and ramdisk 0.8 s to load and some seconds of drivers, a
 * 2.8 GB image under 1 s on NVMe, a system that is up some 10 s after its kernel began.
 */
export const stageDelays: Readonly<Record<Delayed, Triangle>> = {
  /** Firmware that found nothing to boot, until it goes through its boot order again: SeaBIOS says so, and waits a minute. */
  retry: seconds(60, 60, 60),
  /** iPXE from its first instruction to its first packet. */
  ipxe: seconds(0.5, 1, 2.5),
  /** The ramdisk's kernel and drivers, until the network is up. */
  ramdisk: seconds(3, 4.5, 8),
  disk: seconds(0.05, 0.1, 0.5),
  /** Writing the image; what the network takes is added by the network. */
  image: seconds(0.5, 0.9, 2),
  grow: seconds(0.3, 0.8, 2),
  inject: seconds(0.2, 0.4, 1),
  /** Loading the new kernel, before it is reported. */
  kexec: seconds(0.3, 0.8, 1.6),
  /** The installed system, from its kernel to its agent. */
  system: seconds(4, 7, 12),
  inspect: seconds(0.2, 0.5, 5),
  /** A sample of the memory, a few places of each disk. */
  check: seconds(1, 3, 7),
  wipe: seconds(1, 3, 15),
};

export function seconds(least: number, usual: number, most: number): Triangle {
  return { least: least * SECOND, usual: usual * SECOND, most: most * SECOND };
}
