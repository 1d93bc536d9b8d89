import { setPriority } from 'node:os';

/**
 * Puts this thread alone (Linux) behind those that serve: machines that boot come before images that are made. Where that is
 * forbidden, as under the service's filter of system calls, the thread goes on as it is.
 */
export function goBehindOthers(): void {
  try {
    setPriority(10);
  } catch (error) {
    if ((error as { info?: { code?: string } }).info?.code !== 'EPERM') throw error;
  }
}
