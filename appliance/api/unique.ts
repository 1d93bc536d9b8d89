import { RackstartError } from '../kernel/errors.ts';

/** One field's complaint as an error; `field` is a JSON pointer. */
export function invalid(field: string, message: string): RackstartError {
  return new RackstartError('request.invalid', message, { fields: [{ field, message }] });
}
