import { systemClock } from '../appliance/kernel/clock.ts';
import { createIds } from '../appliance/kernel/ids.ts';
import { ChunkDirectory } from './chunk-directory.ts';
import { freeze } from './freeze.ts';

const [, , directory = '', raw = ''] = process.argv;
const { digest } = await freeze(raw, {
  directory: new ChunkDirectory(directory),
  clock: systemClock,
  ids: createIds(systemClock),
  signal: new AbortController().signal,
  threads: 2,
  progress: () => process.stdout.write('chunk\n'),
});
process.stdout.write(`${digest}\n`);
