/** `node lab/tftp/serve.ts ADDRESS DIRECTORY`: our TFTP server alone, as the appliance runs it, on port 69, with a directory's files. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { createLog } from '../../appliance/kernel/log.ts';
import { TftpServer } from '../../pxe/tftp/server.ts';

await main(process.argv.slice(2));

async function main([address = '127.0.0.1', directory = '.']: string[]): Promise<void> {
  const files = new Map<string, Buffer>();
  for (const name of await readdir(directory)) files.set(name, await readFile(join(directory, name)));
  const server = new TftpServer({ endpoints: [{ address }], files, clock: systemClock, log: createLog('info') });
  const running = server.run(new AbortController().signal);
  console.log('serving TFTP');
  await running;
}
