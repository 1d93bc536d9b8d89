import type { Json, Millis } from './column-types.ts';

export interface TenantRow {
  id: string;
  name: string;
  created_at: Millis;
}

/** Who works for a tenant; an operator, and an auditor of the whole fleet, work for none. */
export interface UserRow {
  id: string;
  tenant_id: string | null;
  /** One of its kind in the tenant. */
  name: string;
  email: string | null;
  role: 'operator' | 'tenant-admin' | 'member' | 'auditor';
  created_at: Millis;
  disabled_at: Millis | null;
}

/** What a tenant's servers are grouped by; each tenant has `default`. */
export interface ProjectRow {
  id: string;
  tenant_id: string;
  /** One of its kind among those of the tenant that are not deleted. */
  name: string;
  created_at: Millis;
  /** A deleted one stays for the requests that were made in it. */
  deleted_at: Millis | null;
}

/** One row a tenant, project and user; `used_*` never passes `max_*`: reserved by conditional updates in one transaction. */
export interface QuotaRow {
  holder_kind: 'tenant' | 'project' | 'user';
  holder_id: string;
  tenant_id: string;
  max_servers: number;
  max_cores: number;
  max_memory_mib: number;
  max_disk_gib: number;
  used_servers: number;
  used_cores: number;
  used_memory_mib: number;
  used_disk_gib: number;
}

/** More quota, asked for by a tenant and decided by an operator. */
export interface QuotaRequestRow {
  id: string;
  tenant_id: string;
  holder_kind: 'tenant' | 'project' | 'user';
  holder_id: string;
  /** The `max_*` that are wanted, by name. */
  asked: Json;
  reason: string;
  state: 'pending' | 'approved' | 'denied';
  /** The API key that asked, and the one that decided. */
  requested_by: string;
  decided_by: string | null;
  /** What the operator said to it. */
  decision: string | null;
  created_at: Millis;
  decided_at: Millis | null;
}

export interface ApiKeyRow {
  id: string;
  /** Null for an operator: an operator's key is nobody's tenant. */
  tenant_id: string | null;
  /** Whose it is; null for one of a program. */
  user_id: string | null;
  role: 'operator' | 'tenant-admin' | 'member' | 'auditor';
  /** A list of what it may be used for; `*` is all that its role may. */
  scopes: Json;
  name: string;
  created_at: Millis;
  expires_at: Millis | null;
  revoked_at: Millis | null;
}

/** What a key proves itself with; rotating it makes the next. Rows stay: a secret that was given up never comes back. */
export interface ApiKeySecretRow {
  /** HMAC-SHA256 of the secret under the appliance's key, hex. */
  hmac: string;
  key_id: string;
  /** 1 for the first. */
  generation: number;
  created_at: Millis;
  /** Null until the next one follows it. */
  valid_until: Millis | null;
}

/** The appliance's own data keys, sealed under the master key: a new master key reseals these and nothing else changes. */
export interface SealedKeyRow {
  name: string;
  sealed: string;
}
