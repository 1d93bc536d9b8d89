import type { BootEvidence } from './evidence.ts';
import { matching, printed, told } from './evidence.ts';
import { resetAfter, restarted, stageFailure } from './ramdisk-rules.ts';
import type { Rule } from './rule.ts';
import { certain, likely } from './rule.ts';

/** From the handoff to a tenant who can log in. */
export const systemRules: readonly Rule[] = [
  {
    cause: 'kexec-failed',
    hop: 'work',
    // It is told before the jump that it begins, and after it that it came back.
    lasting: true,
    look(evidence) {
      const failed = stageFailure(evidence);
      return failed?.stage === 'kexec' ? certain('The new kernel could not be started.', failed.reason) : undefined;
    },
  },
  {
    cause: 'system-panic',
    hop: 'system',
    look(evidence) {
      const line = matching(afterHandoff(evidence), PANIC);
      return line === undefined ? undefined : certain("The new system's kernel has stopped.", line);
    },
  },
  {
    cause: 'machine-restarted',
    hop: 'system',
    look: (evidence) => restarted(evidence, 'after the handoff'),
  },
  {
    cause: 'system-network',
    hop: 'system',
    look(evidence) {
      const line = matching(afterHandoff(evidence), RUNNING);
      return line === undefined
        ? undefined
        : likely('The new system is up, and nothing of it is heard on the network.', line);
    },
  },
  {
    cause: 'kexec-hang',
    hop: 'system',
    look(evidence) {
      const handoff = handoffAt(evidence);
      // Silence says something of a console that was heard before.
      if (handoff === undefined || evidence.listened !== 'heard') return undefined;
      if (printed(evidence, handoff + A_LAST_WORD, resetAfter(evidence, handoff)).trim() !== '') return undefined;
      const jump = told(evidence, 'ramdisk', 'kexec started').slice(-1);
      return likely(
        'The machine has left the ramdisk by kexec, and since then printed nothing and said nothing.',
        ...jump,
      );
    },
  },
  {
    cause: 'address-taken',
    hop: 'ssh',
    look: ({ failure }) =>
      failure?.code === 'ssh.host-key'
        ? certain("SSH answers with another host key than the new server's own.", failure.message)
        : undefined,
  },
  {
    cause: 'ssh-key-refused',
    hop: 'ssh',
    look: ({ failure }) =>
      failure?.code === 'ssh.key-refused'
        ? certain("SSH answers with the right host key, and does not take the tenant's key.", failure.message)
        : undefined,
  },
  {
    cause: 'ssh-closed',
    hop: 'ssh',
    look({ failure }) {
      const errno = failure?.details?.['errno'];
      if (failure?.code !== 'ssh.unreachable' || (errno !== 'ECONNREFUSED' && errno !== 'ECONNRESET')) return undefined;
      const sentence = 'The new system has phoned home, and nothing that speaks SSH listens at its port 22.';
      return certain(sentence, `${failure.message} (${errno})`);
    },
  },
  {
    cause: 'ssh-filtered',
    hop: 'ssh',
    look: ({ failure }) =>
      failure?.code === 'ssh.unreachable'
        ? likely('The new system has phoned home, and what we send to its SSH port is not answered.', failure.message)
        : undefined,
  },
];

const PANIC =
  /Kernel panic - not syncing|Unable to mount root fs|Gave up waiting for root|ALERT! .{0,80} does not exist|Entering emergency mode|You are in emergency mode/i;
const RUNNING = /^\S+ login: ?$|Reached target .{0,20}Multi-User|Started .{0,40}Getty|cloud-init.{0,40} finished/im;
// The console's pieces are a second long, and the ramdisk's last words come just before.
const A_LAST_WORD = 1_500;

/** When the ramdisk reported its jump. */
function handoffAt(evidence: BootEvidence): number | undefined {
  return told(evidence, 'ramdisk', 'kexec started').at(-1)?.at;
}

function afterHandoff(evidence: BootEvidence): string {
  const handoff = handoffAt(evidence);
  return handoff === undefined ? '' : printed(evidence, handoff);
}
