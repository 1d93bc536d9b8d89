import { isLabImport, isLabPeer } from './lab-imports.ts';

/**
 * The picture of ARCHITECTURE.md, from the ground up. A room imports itself and what is on a floor below its own; rooms of one
 * floor don't know each other.
 */
export const floors: readonly (readonly string[])[] = [
  ['appliance/kernel'],
  ['appliance/store', 'scheduler', 'templates'],
  ['appliance/events'],
  ['appliance/saga', 'images', 'appliance/tenants', 'appliance/network'],
  ['pxe'],
  ['appliance/machines'],
  ['appliance/pool'],
  ['appliance/providers'],
  ['appliance/requests'],
  // The settings of a daemon as they are written, and as who starts one reads them; rooms below are given what they need of them.
  ['appliance/config-file.ts'],
  ['appliance/config.ts'],
  ['appliance/api', 'appliance/cli'],
  // The composition root and its companions: main, boot-plane, start-up …
  ['appliance'],
  ['lab'],
];

/** The room a file is in, or itself where it is one; undefined for one that no room of the picture holds. */
export function roomOf(file: string): string | undefined {
  if (floorOf(file) >= 0) return file;
  const [house = '', room = '', ...inside] = file.split('/');
  const name = house !== 'appliance' || inside.length === 0 ? house : `${house}/${room}`;
  return floorOf(name) < 0 ? undefined : name;
}

/** What is wrong with an import; undefined when nothing is. */
export function complaint(from: string, to: string): string | undefined {
  const [room, other] = [roomOf(from), roomOf(to)];
  if (room === undefined) return `${from} is in no room that the picture knows`;
  if (other === undefined) return `${from} imports ${to}, which is in no room that the picture knows`;
  if (isTest(to) && !isTest(from)) return `${from} is no test and imports the test material ${to}`;
  if (room === other) return undefined;
  if (room === 'scheduler' && to !== 'appliance/kernel/ids.ts')
    return `${from} imports ${to}: scheduler/ imports ids alone`;
  if (room === 'lab') {
    return isLabImport(from, to) ? undefined : `${from} imports ${to}: the lab reaches the daemon through sockets`;
  }
  if (other === 'lab') {
    return isTest(from) && isLabPeer(to)
      ? undefined
      : `${from} imports ${to}: only tests, and only peers, from the lab`;
  }
  return floorOf(other) < floorOf(room) ? undefined : `${from} imports ${to}: imports go down`;
}

/** Tests, and what only tests are made of: fixtures, suites that every implementation must pass, stand-ins. */
export function isTest(file: string): boolean {
  if (file.startsWith('lab/test/')) return false;
  return (
    /(\.test|\.fixture|\.e2e|\.fuzz|\.storm|\.campaign|-proof)\.ts$|\/test-[^/]+\.ts$/.test(file) ||
    /^lab\/(undo-proof|fuzz)\//.test(file)
  );
}

function floorOf(room: string): number {
  return floors.findIndex((rooms) => rooms.includes(room));
}
