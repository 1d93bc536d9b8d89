import { Type } from 'typebox';

/** How a BMC is reached, as operators tell it. */
export const bmcFields = {
  kind: Type.Optional(Type.Union([Type.Literal('ipmi'), Type.Literal('ipmitool')])),
  port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
  username: Type.String({ minLength: 1, maxLength: 16 }),
  password: Type.String({ minLength: 1, maxLength: 20 }),
  cipherSuite: Type.Optional(Type.Union([Type.Literal(3), Type.Literal(17)])),
};

export const BmcAddress = Type.String({ anyOf: [{ format: 'ipv4' }, { format: 'ipv6' }] });
