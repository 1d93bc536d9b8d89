import { test } from 'tap';

import { Secret } from '../../appliance/kernel/secret.ts';
import type { BootClient } from '../boot-client.ts';
import { parseMac } from '../boot-client.ts';
import type { BootDecision } from '../boot-plan.ts';
import type { BootServices } from './boot-answer.ts';
import { bootAnswer } from './boot-answer.ts';

const mac = parseMac('52:54:00:77:00:01')!;
const rom: BootClient = { mac, kind: 'pxe-rom', architecture: 7 };
const ipxe: BootClient = { mac, kind: 'ipxe', architecture: 7 };
const http: BootClient = { mac, kind: 'http-boot', architecture: 16 };
const install: BootDecision = { verb: 'install', sessionId: 's', scriptToken: new Secret('a/b+c') };
const localDisk: BootDecision = { verb: 'local-disk', why: 'no order' };
const services: BootServices = {
  serverAddress: '10.77.0.1',
  httpBase: 'http://10.77.0.1:8080',
  loaderFor: (architecture) => ({ 0: 'undionly.kpxe', 7: 'snponly.efi' })[architecture],
};

test('a ROM with an order gets the loader of its architecture', async (t) => {
  t.same(bootAnswer(rom, install, services), { kind: 'loader', file: 'snponly.efi' });
  t.same(bootAnswer({ ...rom, architecture: 0 }, install, services), { kind: 'loader', file: 'undionly.kpxe' });
});

test('a ROM without an order gets the loader too, since without a file it waits', async (t) => {
  t.same(bootAnswer(rom, localDisk, services), { kind: 'loader', file: 'snponly.efi' });
});

test('a ROM that no loader is for gets none', async (t) => {
  t.same(bootAnswer({ ...rom, architecture: 2 }, install, services), { kind: 'none' });
  t.same(bootAnswer({ mac, kind: 'pxe-rom' }, install, services), { kind: 'none' });
});

test('iPXE with an order gets the script with its token, escaped', async (t) => {
  t.equal(script(install), 'http://10.77.0.1:8080/boot/52-54-00-77-00-01?token=a%2Fb%2Bc');
});

test('iPXE without an order gets the script without a token', async (t) => {
  t.equal(script(localDisk), 'http://10.77.0.1:8080/boot/52-54-00-77-00-01');
});

test('HTTP boot with an order gets the URL of the loader that the same machine would get by PXE', async (t) => {
  t.same(bootAnswer(http, install, services), { kind: 'loader-url', url: 'http://10.77.0.1:8080/loader/snponly.efi' });
});

test('HTTP boot without an order, or of an architecture without a loader, gets no URL', async (t) => {
  t.same(bootAnswer(http, localDisk, services), { kind: 'none' });
  for (const architecture of [15, 19, 7]) {
    t.same(bootAnswer({ ...http, architecture }, install, services), { kind: 'none' }, String(architecture));
  }
  t.same(bootAnswer({ mac, kind: 'http-boot' }, install, services), { kind: 'none' });
});

test('who is to be ignored, or boots from something else, gets nothing', async (t) => {
  const ignore: BootDecision = { verb: 'ignore', why: 'stranger' };
  for (const client of [rom, ipxe]) {
    t.same(bootAnswer(client, ignore, services), { kind: 'none' });
    t.same(bootAnswer(client, undefined, services), { kind: 'none' });
  }
  t.same(bootAnswer({ ...http, architecture: 16 }, ignore, services), { kind: 'none' });
  t.same(bootAnswer({ mac, kind: 'os', architecture: 7 }, install, services), { kind: 'none' });
});

test('an answer that is printed does not show the token', async (t) => {
  t.notMatch(JSON.stringify(bootAnswer(ipxe, install, services)), /token|a%2F/);
});

function script(decision: BootDecision): string | undefined {
  const answer = bootAnswer(ipxe, decision, services);
  return answer.kind === 'script' ? answer.url.reveal() : undefined;
}
