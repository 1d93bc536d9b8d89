import type { Answered } from './api-document.ts';
import { faultOfNaming, faultOfProblem, isRefusedForItsForm } from './api-document.ts';
import { apiInput } from './api-inputs.ts';
import type { ApiInput } from './api-inputs.ts';
import type { Databases } from './api-site.ts';
import { faultsOf, goOn, goodStory, openApiSite, postgres, remember, sqlite } from './api-site.ts';
import type { Find, Input, Target } from './campaign.ts';
import { turns } from './campaign.ts';

/**
 * The public API on the real server and store, asked by our own OpenAPI document: as an operator who knows what it made
 * itself, as a tenant, and as nobody. No answer may be a 5xx or other than the document says; a wrong field must be named, and
 * the form of what is right must be taken; another tenant's things stay as they are.
 */
export const openApi = (find: Find): Promise<Target> => openTarget(find, sqlite());

/** The same on PostgreSQL. */
export async function openApiOnPostgres(find: Find): Promise<Target> {
  return openTarget(find, await postgres());
}

async function openTarget(find: Find, databases: Databases): Promise<Target> {
  const site = await openApiSite(databases);
  const routes = site.document.operations.map(({ name }): [string, number] => [name, 0]);
  const reached = { hungUp: 0, named: 0, taken: 0, ...Object.fromEntries(routes) } as Record<string, number>;
  const count = (what: string | number) => (reached[what] = (reached[what] ?? 0) + 1);
  let first = '';
  const look = (input: Input, asked: ApiInput, answer: Answered) => {
    count(answer.status);
    const fault = faultIn(asked, answer, count);
    if (fault !== undefined) find(`${lineOf(asked)} → ${answer.status} ${fault}`, input);
    // Done, not refused: that is how far one must come into every route.
    if (answer.status < 300 && asked.operation !== undefined) count(asked.operation.name);
  };
  return {
    reached,
    async feed(input) {
      const asked = apiInput(input.dice, site.document, site.world);
      const wire = site.wires[input.way];
      if (!asked.whole) {
        const text = await wire.shout(asked.bytes, () => turns(1));
        for (const [, status] of text.matchAll(/^HTTP\/1\.1 (\d{3}) /gm)) {
          count(Number(status));
          if (status === '101' && asked.operation?.upgrades) count(asked.operation.name);
          if (Number(status) >= 500) find(`${lineOf(asked)} → ${status}`, input);
        }
        if (text === '') count('hungUp');
        return;
      }
      const answer = await wire.ask(asked.bytes, asked.head, () => turns(1));
      if (answer === undefined) count('hungUp');
      else {
        const text = Buffer.from(answer.body, 'latin1').toString();
        look(input, asked, { ...answer, body: text });
        remember(site, asked.operation, answer);
      }
    },
    settle: () => turns(),
    async exchange() {
      let story = '';
      for (const way of ['direct', 'socket'] as const) story += await goodStory(site, site.good[way]);
      if (first === '') first = story;
      if (story !== first) throw new Error(`another story:\n${story}\nthan at first:\n${first}`);
      await goOn(site);
    },
    async rest() {
      // Who waits for a body that never comes waits 30 s.
      await site.clock.advance(60_000);
      for (const wire of Object.values(site.wires)) wire.hangUp();
      await turns(20);
    },
    async state() {
      return { faults: await faultsOf(site), waiting: site.clock.nextWake() };
    },
    async close() {
      await site.close();
      await databases.close();
    },
  };
}

/** What is wrong with an answer; undefined when nothing is. */
function faultIn(
  { operation, head, expected }: ApiInput,
  answer: Answered,
  count: (what: string) => void,
): string | undefined {
  const { status, body } = answer;
  if (status >= 500) return body.slice(0, 300);
  if (head) return undefined;
  if (operation === undefined) return status < 400 || body === '' ? undefined : faultOfProblem(JSON.parse(body));
  const fault = operation.faultOf(answer);
  // Who may not, is told that before anything else.
  if (fault !== undefined || status === 401 || status === 403) return fault;
  if (expected.kind === 'form') {
    count('taken');
    return isRefusedForItsForm(answer) ? `its form is right, and refused: ${body}` : undefined;
  }
  if (expected.kind === 'any') return undefined;
  count('named');
  return faultOfNaming(expected.field, answer);
}

function lineOf({ bytes }: ApiInput): string {
  const text = bytes.toString('latin1');
  const [line = ''] = text.split('\r\n');
  return `${line.slice(0, 120)} ${text.slice(text.indexOf('\r\n\r\n') + 4).slice(0, 300)}`;
}
