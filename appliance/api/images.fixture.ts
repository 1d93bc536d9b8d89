import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import type { Test } from 'tap';

import type { ManualClock } from '../kernel/manual-clock.ts';
import type { Store } from '../store/store.ts';
import type { Caller } from './api.fixture.ts';
import { apiBench } from './api.fixture.ts';

/** A bench whose imports are worked on. */
export async function imageBench(
  t: Test,
  store: Store,
  clock: ManualClock,
  settings: Parameters<typeof apiBench>[3] = {},
) {
  const bench = await apiBench(t, store, clock, { rateLimit: { perSecond: 1e6, burst: 1e6 }, ...settings });
  const ending = new AbortController();
  const running = bench.made.imports.run(ending.signal).catch(() => undefined);
  t.teardown(async () => {
    ending.abort(new Error('the test is over'));
    await running;
  });
  return {
    ...bench,
    send: async (
      by: Caller,
      { content, ...file }: { content: Buffer; name: string; format: string; sha256?: string },
    ) => {
      const declared = { version: '1', bytes: content.length, sha256: sha256(content), ...file };
      const { id } = (await by.post('/images/uploads', declared)).body as { id: string };
      await part(by, `/images/uploads/${id}`, 0, content);
      return ((await by.post(`/images/uploads/${id}/complete`)).body as { import: string }).import;
    },
    /** Everything that lies in the image directory. */
    files: () => readdirSync(bench.made.directory, { recursive: true, encoding: 'utf8' }).sort(),
    /** What the import is once it has ended, and cleared what it had. */
    ended: async (id: string, by = bench.operator): Promise<unknown> => {
      for (;;) {
        const { body } = await by.get(`/images/imports/${id}`);
        const here = readdirSync(join(bench.made.directory, 'imports'));
        if ((body as { state: string }).state !== 'running' && here.length === 0) return body;
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
    events: async (): Promise<string[]> => {
      await bench.sequence();
      const { body } = await bench.operator.get('/events?limit=1000');
      return (body as { events: { type: string }[] }).events.map(({ type }) => type);
    },
  };
}

/** A part of an upload, at its offset. */
export function part({ app, headers }: Caller, path: string, offset: number, payload: Buffer) {
  const type = { 'content-type': 'application/offset+octet-stream', 'upload-offset': String(offset) };
  return app.inject({ method: 'PATCH', url: url(path), headers: { ...headers, ...type }, payload });
}

export const url = (path: string) => `/api/v1${path}`;

export function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}
