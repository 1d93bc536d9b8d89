import type { Deadline, StageSample } from '../../scheduler/deadline.ts';
import { deadline } from '../../scheduler/deadline.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { HOUR, MINUTE } from '../kernel/clock.ts';
import type { MachineRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';

/** Machines that are alike, as far as their boots go. */
export type HardwareKind = Pick<MachineRow, 'model' | 'firmware'>;

/**
 * The stages that a boot may be late in, in their order, and what each is allowed while nothing is known of a model: `dhcp` is POST,
 * until the first address; `loader` until iPXE has asked for its script; `ramdisk` until the claim; `disk` until the image begins;
 * `image` for each GiB, and so long may a stream stand still; `boot` from the kexec to the phone-home, `restart` the same by way of
 * the firmware, `ssh` from there to the last proof. Inspections, checks and wipes depend on the disks, not on the model: they have what
 * there is, from one sign of life to the next.
 */
const coldStages = {
  dhcp: Infinity,
  loader: 90_000,
  ramdisk: 3 * MINUTE,
  disk: 2 * MINUTE,
  image: 2 * MINUTE,
  grow: 2 * MINUTE,
  inject: 2 * MINUTE,
  kexec: MINUTE,
  boot: Infinity,
  restart: Infinity,
  ssh: Infinity,
  inspect: Infinity,
  check: Infinity,
  wipe: Infinity,
} as const satisfies Record<string, Millis>;

export type WatchedStage = keyof typeof coldStages;
export const watchedStages = Object.keys(coldStages) as readonly WatchedStage[];

export interface BootDeadlineRules {
  /** What no stage of a ramdisk may exceed, and what none is given less than. */
  readonly ceiling: Millis;
  readonly floor: Millis;
  /** How many times what 99 in 100 boots of the model take. */
  readonly factor: number;
  /** What the installed system may take at most, to its phone-home and from there to SSH. */
  readonly verify: Millis;
}

/** How long deadlines look back, and how many boots. */
export const STAGE_TIMES_KEPT: Millis = 30 * 24 * HOUR;
const NEWEST = 500;

// What a hundred boots say does not change from one second to the next; what two late ones say is heard within this. The next
// boot may tell much where little is known, and there is little to read.
const HOLD: Millis = 30_000;
const COLD_HOLD: Millis = 2_000;

/** How long stages may take on hardware of a kind, by what they took there. */
export class BootDeadlines {
  readonly #read: Reader;
  readonly #clock: Clock;
  readonly #rules: BootDeadlineRules;
  readonly #attendance: { readonly since: Millis };
  readonly #known = new Map<string, { at: Millis; hold: Millis; deadline: Promise<Deadline> }>();

  /** `attendance`: since when machines were heard without a gap. */
  constructor(
    deps: { readonly read: Reader; readonly clock: Clock; readonly attendance: { readonly since: Millis } },
    rules: BootDeadlineRules,
  ) {
    this.#read = deps.read;
    this.#clock = deps.clock;
    this.#attendance = deps.attendance;
    this.#rules = rules;
  }

  /** From when a silence counts: nobody is late for having spoken while we were away. */
  heardSince(from: Millis): Millis {
    return Math.max(from, this.#attendance.since);
  }

  of({ model, firmware }: HardwareKind, stage: WatchedStage): Promise<Deadline> {
    const key = JSON.stringify([model, firmware, stage]);
    const now = this.#clock.now();
    const known = this.#known.get(key);
    if (known !== undefined && Math.abs(now - known.at) < known.hold) return known.deadline;
    const asked = { at: now, hold: HOLD, deadline: this.#ask({ model, firmware }, stage) };
    this.#known.set(key, asked);
    asked.deadline.then(
      ({ basis }) => {
        if (basis === 'cold') asked.hold = COLD_HOLD;
      },
      () => {
        if (this.#known.get(key) === asked) this.#known.delete(key);
      },
    );
    return asked.deadline;
  }

  /** The least that any of the ramdisk's stages may take: who looks this often misses none that begins and dies unseen. */
  async shortest(kind: HardwareKind): Promise<Millis> {
    const stages = ['loader', 'ramdisk', 'disk', 'image', 'grow', 'inject', 'kexec'] as const;
    const all = await Promise.all(stages.map((stage) => this.of(kind, stage)));
    return Math.min(...all.map(({ milliseconds }) => milliseconds));
  }

  async #ask(kind: HardwareKind, stage: WatchedStage): Promise<Deadline> {
    const { floor, factor } = this.#rules;
    const samples = await samplesOf(this.#read, kind, stage, this.#clock.now() - STAGE_TIMES_KEPT);
    return deadline(samples, { cold: coldStages[stage], floor, factor, ceiling: this.#ceiling(stage) });
  }

  #ceiling(stage: WatchedStage): Millis {
    const { ceiling, verify } = this.#rules;
    if (stage === 'restart') return ceiling + verify;
    return stage === 'boot' || stage === 'ssh' ? verify : ceiling;
  }
}

export function hardwareOf(read: Reader, machineId: string): Promise<HardwareKind> {
  return read
    .selectFrom('machines')
    .select(['model', 'firmware'])
    .where('id', '=', machineId)
    .executeTakeFirstOrThrow();
}

async function samplesOf(
  read: Reader,
  { model, firmware }: HardwareKind,
  stage: WatchedStage,
  since: Millis,
): Promise<StageSample[]> {
  const rows = await read
    .selectFrom('stage_times')
    .select(['milliseconds', 'outcome'])
    .where('model', model === null ? 'is' : '=', model)
    .where('firmware', firmware === null ? 'is' : '=', firmware)
    .where('stage', '=', stage)
    .where('ended_at', '>', since)
    .orderBy('ended_at', 'desc')
    .limit(NEWEST)
    .execute();
  return rows.map(({ milliseconds, outcome }) => ({ milliseconds, late: outcome === 'late' }));
}
