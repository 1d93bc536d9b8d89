import { readFile, writeFile } from 'node:fs/promises';

/** The processor time that a process has had, of all its threads. */
export async function cpuSeconds(pid: number): Promise<number> {
  // proc(5): utime and stime are the fields 14 and 15 of stat, in ticks of which Linux has 100 a second.
  const stat = await readFile(`/proc/${String(pid)}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** From here on the peak counts anew. */
export function forgetPeak(pid: number): Promise<void> {
  // proc(5), clear_refs: 5 resets the peak to what is resident now.
  return writeFile(`/proc/${String(pid)}/clear_refs`, '5');
}

/** The most memory that was resident at once. */
export async function peakBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${String(pid)}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}
