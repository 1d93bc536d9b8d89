import type { ApiKeyRow } from '../store/schema.ts';

/** What somebody is: operators run the fleet, tenant admins a tenant; members have servers; auditors look and change nothing. */
export type Role = ApiKeyRow['role'];

interface Rights {
  /** Who may. */
  readonly roles: readonly Role[];
  /** It is about what all tenants share: not for who works for one of them, whatever the role. */
  readonly fleet?: boolean;
  readonly means: string;
}

const everyone = ['operator', 'tenant-admin', 'member', 'auditor'] as const;
const orderers = ['operator', 'tenant-admin', 'member'] as const;
const admins = ['operator', 'tenant-admin'] as const;
const watchers = ['operator', 'tenant-admin', 'auditor'] as const;

/**
 * The one table of rights: what a route may ask for, and which roles have it. A key's scopes are names of this table; they
 * narrow what its role may, and never widen it. `write` does not include `read`. Which route asks for what stands at the
 * route, and in the API's document.
 *
 * Whoever works for a tenant does all of this within that tenant. An auditor of no tenant reads of all.
 */
const rights = {
  'catalogue:read': { roles: everyone, means: 'read regions, flavors and images' },
  'catalogue:write': { roles: ['operator'], fleet: true, means: 'add regions, flavors and images' },
  'images:write': { roles: orderers, means: 'import, deprecate and delete images' },
  'fleet:read': { roles: ['operator', 'auditor'], fleet: true, means: 'read machines, networks, boots and figures' },
  'fleet:write': { roles: ['operator'], fleet: true, means: 'add and work on machines and networks' },
  'tenants:read': { roles: everyone, means: 'read tenants' },
  'tenants:write': { roles: ['operator'], fleet: true, means: 'add tenants' },
  'users:read': { roles: everyone, means: 'read users' },
  'users:write': { roles: admins, means: 'add and disable users' },
  'projects:read': { roles: everyone, means: 'read projects' },
  'projects:write': { roles: admins, means: 'add and delete projects' },
  'keys:read': { roles: watchers, means: 'read API keys, without their secrets' },
  'keys:write': { roles: admins, means: 'issue, rotate and revoke API keys' },
  'quotas:read': { roles: everyone, means: 'read quotas and what was asked about them' },
  'quotas:ask': { roles: orderers, means: 'ask for a higher quota' },
  'quotas:write': { roles: ['operator'], fleet: true, means: 'set quotas, and decide who asked for more' },
  'servers:read': { roles: everyone, means: 'read servers' },
  'servers:write': { roles: orderers, means: 'order and release servers' },
  'events:read': { roles: everyone, means: 'read events, and follow them' },
  'audit:read': { roles: watchers, means: 'read the audit trail' },
} as const satisfies Record<string, Rights>;

/** What a route asks for. */
export type Right = keyof typeof rights;

/** What a key may be used for; `*` is whatever its role may. */
export type Scope = Right | '*';

export const allRights = Object.keys(rights) as readonly Right[];

export const allScopes: readonly Scope[] = ['*', ...allRights];

/** Who asks: a role, for a tenant or for none, by a key of these scopes. */
export interface Standing {
  readonly role: Role;
  /** Undefined for who works for no tenant: an operator, an auditor of all. */
  readonly tenantId: string | undefined;
  readonly scopes: readonly Scope[];
}

/** Undefined when it may; else whether it is the role or the key's scopes that refuse. */
export function refusal({ role, tenantId, scopes }: Standing, right: Right): 'role' | 'scope' | undefined {
  const { roles, fleet = false }: Rights = rights[right];
  if (!roles.includes(role) || (fleet && tenantId !== undefined)) return 'role';
  return scopes.includes('*') || scopes.includes(right) ? undefined : 'scope';
}

/** Whether who holds these scopes may hand out those. */
export function covers(held: readonly Scope[], asked: readonly Scope[]): boolean {
  return held.includes('*') || asked.every((scope) => held.includes(scope));
}

/** What a scope lets a key do, in words. */
export function meaningOf(scope: Scope): string {
  return scope === '*' ? 'whatever its role may' : rights[scope].means;
}

export function isScope(text: unknown): text is Scope {
  return (allScopes as readonly unknown[]).includes(text);
}
