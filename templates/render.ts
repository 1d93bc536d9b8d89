import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import Handlebars from 'handlebars';

import { RackstartError } from '../appliance/kernel/errors.ts';
import type { Language, TemplateValue } from './language.ts';
import { placesValuesSafely, written } from './language.ts';

/** Errors: `config.invalid` for a value that is missing or that the template's language can't carry. */
export type Render<Context extends object> = (context: Context) => string;

/** Reads and compiles `file` of this directory; its name in errors is its path here. */
export function loadTemplate<Context extends object>(file: string, language: Language): Render<Context> {
  return compileTemplate(file, readFileSync(join(import.meta.dirname, file), 'utf8'), language);
}

/**
 * A template bound to the language it is written in. It may say `{{value}}`, `{{#if}}`, `{{#unless}}`, `{{#each}}` and
 * nothing else, so that no value reaches the text but through that language's quoting. Strict: a name that the context
 * doesn't have is an error in conditions too, where Handlebars' own strict mode is silent; say `null` or `[]` for none.
 * Compiling takes milliseconds, rendering microseconds: compile once.
 *
 * Errors: `config.invalid` for a template that says more, or puts a value where quoting would not hold.
 */
export function compileTemplate<Context extends object>(
  name: string,
  source: string,
  language: Language,
): Render<Context> {
  refuseUnsafePlaces(name, source, language);
  const program = Handlebars.parse(source);
  quoteEveryValue(program, name);
  const engine = Handlebars.create();
  for (const helper of Object.keys(engine.helpers)) engine.unregisterHelper(helper);
  engine.registerHelper('written', (value: unknown, field: string) => written(scalar(value, field), language, field));
  engine.registerHelper('if', branch(true));
  engine.registerHelper('unless', branch(false));
  engine.registerHelper('each', eachItem);
  const template = engine.compile<Context>(program, {
    noEscape: true,
    strict: true,
    knownHelpersOnly: true,
    knownHelpers: { written: true },
  });
  return (context) => template(context);
}

function refuseUnsafePlaces(name: string, source: string, language: Language): void {
  for (const [index, line] of source.split('\n').entries()) {
    if (/\{\{(?![#/^!]|else)/.test(line) && !placesValuesSafely(line, language)) {
      throw new RackstartError('config.invalid', `${name}:${index + 1} puts a value where quoting does not hold.`);
    }
  }
}

/** Turns `{{value}}` into a call of `written`, here and in every block, and refuses whatever is not in the subset. */
function quoteEveryValue(program: hbs.AST.Program, name: string): void {
  program.body = program.body.map((statement) => {
    if (isContent(statement)) return statement;
    if (isMustache(statement) && statement.escaped && isPath(statement.path) && statement.params.length === 0) {
      const field: hbs.AST.StringLiteral = {
        type: 'StringLiteral',
        value: `${name}: ${statement.path.original}`,
        original: statement.path.original,
        loc: statement.loc,
      };
      const helper = { ...statement.path, data: false, depth: 0, parts: ['written'], original: 'written' };
      return { ...statement, path: helper, params: [statement.path, field] };
    }
    if (isBlock(statement) && ['if', 'unless', 'each'].includes(statement.path.original)) {
      const [subject] = statement.params;
      if (statement.params.length !== 1 || subject === undefined || !isPath(subject))
        throw beyondSubset(name, statement);
      quoteEveryValue(statement.program, name);
      // Handlebars' types promise an inverse; its parser leaves it out where there is no {{else}}.
      const inverse = statement.inverse as hbs.AST.Program | undefined;
      if (inverse !== undefined) quoteEveryValue(inverse, name);
      return statement;
    }
    throw beyondSubset(name, statement);
  });
}

function beyondSubset(name: string, { loc }: hbs.AST.Statement): RackstartError {
  return new RackstartError(
    'config.invalid',
    `${name}:${loc.start.line} is more than a value, a condition or a list, which is all a template may hold.`,
  );
}

function branch(when: boolean) {
  return function (this: unknown, value: unknown, options: Handlebars.HelperOptions): string {
    const holds = Array.isArray(value) ? value.length > 0 : Boolean(present(value, 'A condition'));
    return holds === when ? options.fn(this) : options.inverse(this);
  };
}

function eachItem(this: unknown, value: unknown, options: Handlebars.HelperOptions): string {
  if (!Array.isArray(value)) throw new RackstartError('config.invalid', 'A template repeats over what is not a list.');
  return value.map((item: unknown) => options.fn(item)).join('');
}

function scalar(value: unknown, field: string): TemplateValue {
  const found = present(value, field);
  if (typeof found === 'string' || typeof found === 'boolean') return found;
  if (typeof found === 'number' && Number.isFinite(found)) return found;
  throw new RackstartError('config.invalid', `${field} is not text, a number or a truth value.`);
}

function present(value: unknown, field: string): unknown {
  if (value === undefined) throw new RackstartError('config.invalid', `${field} is missing from the context.`);
  return value;
}

const isContent = ({ type }: hbs.AST.Statement) => type === 'ContentStatement' || type === 'CommentStatement';
const isMustache = (node: hbs.AST.Statement): node is hbs.AST.MustacheStatement => node.type === 'MustacheStatement';
const isBlock = (node: hbs.AST.Statement): node is hbs.AST.BlockStatement => node.type === 'BlockStatement';
const isPath = (node: hbs.AST.Node): node is hbs.AST.PathExpression => node.type === 'PathExpression';
