import { Type } from 'typebox';
import type { Static } from 'typebox';

import type { Declaration } from '../../images/ingest/declaration.ts';
import { sentFormats } from '../../images/ingest/declaration.ts';
import { Name, strict } from './schemas.ts';

/** What is declared of an image file, and of the image that it becomes. */
export const declared = {
  name: Name,
  version: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }),
  sha256: Type.String({ pattern: '^[0-9a-fA-F]{64}$', description: 'of the file as it is sent' }),
  rootPartition: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 128, description: 'where several partitions could be the root: which one is' }),
  ),
  kernelArgs: Type.Optional(Type.String({ maxLength: 512, pattern: '^[A-Za-z0-9_=,.:/@ -]*$' })),
};

export const Format = Type.Enum([...sentFormats], {
  description: 'Of the file. It is held against this; nothing is guessed.',
});

export const Declared = Type.Object({ ...declared, format: Format }, strict);

/** Of the tenant that the caller works for; of an operator, for everyone. */
export function declarationOf(
  { name, version, format, sha256, rootPartition, kernelArgs = '' }: Static<typeof Declared>,
  tenantId: string | undefined,
): Declaration {
  return { tenantId: tenantId ?? null, name, version, format, sha256: sha256.toLowerCase(), rootPartition, kernelArgs };
}
