import { stagesWithTimeline } from '../../pxe/boot-session.ts';
import type { BootState } from '../../pxe/boot-states.ts';
import { readTimeline } from '../../pxe/timeline-records.ts';
import type { Millis } from '../kernel/clock.ts';
import type { BootSessionRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import type { WatchedStage } from './boot-deadlines.ts';
import { sessionOf } from './boot-records.ts';

/** The stage that a boot is in, and since when nothing has been heard that could move it. */
export interface StageClock {
  readonly stage: WatchedStage;
  readonly since: Millis;
}

/**
 * Of a boot whose ramdisk is to do something. Firmware writes no row: how far it is, the timeline knows. An image is held to its
 * bytes, since a machine whose stream stands still goes on telling so; everything else to its last sign of life.
 */
export async function stageClock(read: Reader, boot: BootSessionRow): Promise<StageClock> {
  const { seen_at: seenAt, moved_at: movedAt } = boot;
  const stages = sessionOf(boot).stages;
  switch (boot.state as BootState) {
    case 'scripted':
    case 'loading':
      return { stage: 'ramdisk', since: seenAt };
    case 'taken':
    case 'claimed':
      return { stage: 'disk', since: seenAt };
    case 'imaging':
      return { stage: 'image', since: movedAt ?? seenAt };
    case 'growing':
      return { stage: 'grow', since: seenAt };
    case 'injecting':
      return { stage: stages.inject?.endedAt === undefined ? 'inject' : 'kexec', since: seenAt };
    case 'warming':
    case 'inspecting':
      return { stage: 'inspect', since: seenAt };
    case 'checking':
      return { stage: 'check', since: seenAt };
    case 'wiping':
      return { stage: 'wipe', since: seenAt };
    case 'opened':
    case 'addressed':
    case 'loader':
      return firmwareClock(read, boot);
    // Whoever asks about a boot that has left the ramdisk, or is over, knows better than we.
    default:
      return { stage: 'restart', since: seenAt };
  }
}

// A transfer of the loader that goes on is none that is late.
async function firmwareClock(read: Reader, boot: BootSessionRow): Promise<StageClock> {
  const powered = boot.powered_at ?? boot.opened_at;
  const entries = await readTimeline(read, { sessionIds: [boot.id] });
  const addressed = stagesWithTimeline(sessionOf(boot), entries).dhcp?.endedAt;
  if (addressed === undefined || addressed < powered) return { stage: 'dhcp', since: powered };
  // Firmware that begins again has failed: it may do so for ever, and each time something is heard of it.
  const again = entries.find(({ at, source, name, detail }) => {
    return source === 'dhcp' && name === 'discover' && at > addressed && detail['kind'] !== 'ipxe';
  });
  const first = entries.filter(({ at }) => at < (again?.at ?? Infinity));
  const heard = first.findLast(({ source }) => source === 'tftp' || source === 'http')?.at ?? addressed;
  return { stage: 'loader', since: Math.max(addressed, heard) };
}
