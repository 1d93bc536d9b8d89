import type { ApiDocument, Operation } from './api-document.ts';
import { attack } from './api-attacks.ts';
import type { Asked, World } from './api-request.ts';
import { ask, bytesOf, knownIn, withJson } from './api-request.ts';
import { wrongTexts, wrongs } from './against-schema.ts';
import type { Dice } from './dice.ts';
import { valid } from './from-schema.ts';

/** What must become of an input: its form is taken; this one field is named; or whatever the document allows. */
export type Expected = { readonly kind: 'form' } | { readonly kind: 'field'; readonly field: string } | { kind: 'any' };

export interface ApiInput {
  readonly bytes: Buffer;
  /** Whether it is one whole request; what is not has a connection of its own. */
  readonly whole: boolean;
  /** Undefined where no route of the document is asked, or not as HTTP has it. */
  readonly operation: Operation | undefined;
  readonly head: boolean;
  readonly expected: Expected;
}

/** An input for one operation: right, wrong in one place, or hostile to what reads it. */
export function apiInput(dice: Dice, { operations }: ApiDocument, world: World): ApiInput {
  const operation = dice.pick(operations);
  const asked = ask(operation, dice, world);
  const way = dice.below(100);
  if (way < 75 && operation.upgrades) return { ...inputOf(asked, operation, { kind: 'any' }), whole: false };
  if (way < 35) return inputOf(asked, operation, { kind: 'form' });
  if (way < 75) return wrongInOnePlace(asked, operation, dice, world);
  const attacked = attack(asked, operation, dice, world);
  return {
    bytes: attacked.bytes ?? bytesOf(asked),
    whole: attacked.whole ?? !operation.upgrades,
    operation: attacked.isDocumented === false ? undefined : operation,
    head: asked.method === 'HEAD',
    expected: { kind: attacked.isRight === true ? 'form' : 'any' },
  };
}

/** One field of body, query or path that the document says is wrong. */
function wrongInOnePlace(asked: Asked, operation: Operation, dice: Dice, world: World): ApiInput {
  const { body, parameters } = operation;
  const queries = parameters.filter(({ in: place }) => place === 'query');
  if (body !== undefined && dice.percent(80)) {
    const { value, field } = dice.pick(wrongs(body, valid(body, dice, knownIn(world))));
    withJson(asked, value);
    return inputOf(asked, operation, { kind: 'field', field: field || '/' });
  }
  if (queries.length > 0 && dice.percent(60)) {
    const { name, schema } = dice.pick(queries);
    asked.query = [...asked.query.filter(([each]) => each !== name), [name, dice.pick(wrongTexts(schema))]];
    return inputOf(asked, operation, { kind: 'field', field: `/querystring/${name}` });
  }
  const name = dice.pick(['unknown', 'constructor', '__proto__', 'a/b', 'limit[]']);
  asked.query.push([name, 'x']);
  return inputOf(asked, operation, { kind: 'field', field: `/querystring/${name.replace('/', '~1')}` });
}

function inputOf(asked: Asked, operation: Operation, expected: Expected): ApiInput {
  return { bytes: bytesOf(asked), whole: true, operation, head: asked.method === 'HEAD', expected };
}
