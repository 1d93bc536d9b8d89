import { pino } from 'pino';

/** A log is a stream of events with fields: the first argument holds the fields, the message never holds values. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Log;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** JSON lines on standard error: standard output belongs to what a command answers. */
export function createLog(level: LogLevel): Log {
  // What was thrown is told with its message and stack under either name; pino knows `err` alone.
  const serializers = { error: pino.stdSerializers.err };
  const options = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, serializers };
  return pino(options, pino.destination(2));
}

export const silentLog: Log = pino({ level: 'silent' });
