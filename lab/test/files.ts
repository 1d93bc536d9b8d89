import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';

const rooms = ['appliance', 'pxe', 'images', 'templates', 'scheduler', 'systemd', 'lab'];

/** All tests beside the code, relative to `root`, in the order of their names. */
export function testFiles(root: string): string[] {
  return walk(root).filter((file) => file.endsWith('.test.ts') && rooms.includes(file.split('/')[0]!));
}

/** Campaigns of hostile input, a protocol each. */
export function fuzzFiles(root: string): string[] {
  return walk(root).filter((file) => file.startsWith('lab/fuzz/') && file.endsWith('.fuzz.ts'));
}

/** Campaigns of faults and random histories, which only compute, on a clock of their own. */
export function faultCampaigns(root: string): string[] {
  return walk(root).filter((file) => file.startsWith('lab/') && file.endsWith('.campaign.ts'));
}

/** What simulated fleets and sagas must withstand. */
export function storms(root: string): string[] {
  return walk(root).filter((file) => file.startsWith('lab/') && file.endsWith('.storm.ts'));
}

/** The flows with whole machines. */
export function machineFlows(root: string): string[] {
  return walk(root).filter((file) => file.startsWith('lab/e2e/') && file.endsWith('.e2e.ts'));
}

/** Every file of the project, relative to `root`, but for what is installed, cached or git's own. */
export function walk(root: string, folder = root): string[] {
  const entries = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  return entries.flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return foreign.includes(entry.name) ? [] : walk(root, path);
    return entry.isFile() ? [relative(root, path)] : [];
  });
}

const foreign = ['node_modules', '.git', '.cache', '.tap'];
