import { CommanderError } from 'commander';

import type { FieldError } from '../kernel/errors.ts';
import { RackstartError } from '../kernel/errors.ts';
import { printable } from './text.ts';

/** An error answer of the API, as it came: a newer appliance may know codes that this program does not. */
export class ApiFailure extends Error {
  readonly code: string;
  readonly hint: string;
  readonly fields: readonly FieldError[];
  readonly details: Readonly<Record<string, unknown>>;

  constructor({ code, message, hint, fields = [], details = {} }: ApiProblem) {
    super(message);
    this.name = 'ApiFailure';
    this.code = code;
    this.hint = hint;
    this.fields = fields;
    this.details = details;
  }
}

/** What stands under `error` in an error answer. */
export interface ApiProblem {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  readonly fields?: readonly FieldError[];
  readonly details?: Readonly<Record<string, unknown>>;
}

/** Something the person at the terminal can put right, and is told how. */
export class UsageError extends Error {
  readonly hint: string;

  constructor(message: string, hint: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'UsageError';
    this.hint = hint;
  }
}

/** Nobody answers, or a connection was cut: it may be tried again. */
export class NoAnswer extends UsageError {}

/**
 * What a command ends with on standard error: what happened, why, and what to do. Only an error nobody foresaw shows where
 * in the program it arose.
 */
export function describeFailure(error: unknown): { text: string; exitCode: number } {
  // Commander has told its part already: help, or what is wrong with the arguments.
  if (error instanceof CommanderError) return { text: '', exitCode: error.exitCode };
  if (error instanceof Error && error.name === 'AbortError') return { text: 'interrupted\n', exitCode: 130 };
  return { text: `${linesOf(error).map(printable).join('\n')}\n`, exitCode: 1 };
}

function linesOf(error: unknown): string[] {
  if (error instanceof ApiFailure || error instanceof RackstartError) {
    const { code, message, hint, fields, details, cause } = error;
    return [
      `error: ${message} (${code})`,
      ...fields.map(({ field, message: complaint }) => `  ${field}: ${complaint}`),
      ...(fields.length > 0 || Object.keys(details).length === 0 ? [] : [`  details: ${JSON.stringify(details)}`]),
      ...causesOf(cause).map((reason) => `  because: ${reason}`),
      ...(code === 'internal' && cause instanceof Error && cause.stack !== undefined ? [cause.stack] : []),
      `  hint: ${hint}`,
    ];
  }
  if (error instanceof UsageError) {
    const { message, hint, cause } = error;
    return [`error: ${message}`, ...causesOf(cause).map((reason) => `  because: ${reason}`), `  hint: ${hint}`];
  }
  return [`error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`];
}

function causesOf(cause: unknown): string[] {
  return cause instanceof Error ? [cause.message, ...causesOf(cause.cause)] : [];
}
