import { RackstartError } from '../kernel/errors.ts';
import type { Store, Tx } from '../store/store.ts';

/** Runs an insert that does nothing where its key is taken. Errors: `request.invalid` about `field` when it was. */
export async function unique(
  store: Store,
  field: string,
  insert: (tx: Tx) => Promise<{ numInsertedOrUpdatedRows?: bigint | undefined }>,
): Promise<void> {
  const { numInsertedOrUpdatedRows } = await store.transaction(insert);
  if (numInsertedOrUpdatedRows !== 1n) throw invalid(`/${field}`, 'This is taken.');
}

/** One field's complaint as an error; `field` is a JSON pointer. */
export function invalid(field: string, message: string): RackstartError {
  return new RackstartError('request.invalid', message, { fields: [{ field, message }] });
}
