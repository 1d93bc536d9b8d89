/**
 * `node lab/fuzz/main.ts TARGET [--inputs 200000] [--seed 1] [--only INDEX | --only FIRST-LAST]`, with TARGET one of dhcp,
 * tftp, rmcp, boot, api, api-postgres: feeds hostile input to what the network can reach, half of it through real sockets,
 * in a network of its own (which takes root or user namespaces); or one of image-qcow2, image-vmdk, image-vhdx, image-gpt,
 * image-mbr, map: feeds it to what reads disk images and chunk maps. Prints the verdict as JSON; the exit code is 1 when something was found.
 *
 * Every input follows from the seed and its index, so a finding is seen again by its number: `--only 12345`, or, where it
 * took what came before, `--only 12000-12999`. `npm test` runs each target with 200,000 inputs of seed 1; images with
 * 100,000, and the API, where an input is a transaction, with fewer.
 */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

import { run } from './campaign.ts';
import type { Campaign, OpenTarget } from './campaign.ts';
import type { ImageKind } from './image-inputs.ts';
import { inOwnNetwork } from './own-network.ts';

const targets: Readonly<Record<string, () => Promise<OpenTarget>>> = {
  dhcp: async () => (await import('./dhcp.ts')).openDhcp,
  tftp: async () => (await import('./tftp.ts')).openTftp,
  rmcp: async () => (await import('./rmcp.ts')).openRmcp,
  boot: async () => (await import('./boot.ts')).openBoot,
  api: async () => (await import('./api.ts')).openApi,
  'api-postgres': async () => (await import('./api.ts')).openApiOnPostgres,
  'image-qcow2': () => image('qcow2'),
  'image-vmdk': () => image('vmdk'),
  'image-vhdx': () => image('vhdx'),
  'image-gpt': () => image('gpt'),
  'image-mbr': () => image('mbr'),
  map: async () => (await import('./map.ts')).openMap,
};

process.exitCode = await main(process.argv.slice(2));

async function image(kind: ImageKind): Promise<OpenTarget> {
  return (await import('./image.ts')).imageTarget(kind);
}

async function main(args: string[]): Promise<number> {
  const { name, campaign } = readArguments(args);
  const target = targets[name];
  if (target === undefined) {
    console.error(`There is no target "${name}": ${Object.keys(targets).join(', ')}`);
    return 2;
  }
  const needsNetwork = !/^(image-|map$)/.test(name);
  if (needsNetwork && process.env['RACKSTART_FUZZ_NETWORK'] !== 'own') return elsewhere(args);
  const verdict = await run(name, await target(), campaign);
  console.log(JSON.stringify(verdict, null, 2));
  return verdict.findings.length === 0 ? 0 : 1;
}

function readArguments(args: string[]): { name: string; campaign: Campaign } {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      inputs: { type: 'string', default: '200000' },
      seed: { type: 'string', default: '1' },
      only: { type: 'string' },
    },
  });
  const [first, last = first] = (values.only ?? '').split('-').map(Number);
  const only = values.only === undefined ? {} : { only: { first: first!, last: last! } };
  const campaign = { inputs: Number(values.inputs), seed: Number(values.seed), ...only };
  return { name: positionals[0] ?? '', campaign };
}

/** The same again, in a network of its own. */
function elsewhere(args: readonly string[]): number {
  const [program = '', ...rest] = inOwnNetwork([process.execPath, import.meta.filename, ...args]);
  const env = { ...process.env, RACKSTART_FUZZ_NETWORK: 'own' };
  return spawnSync(program, rest, { stdio: 'inherit', env }).status ?? 1;
}
