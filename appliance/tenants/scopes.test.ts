import { test } from 'tap';

import type { Scope, Standing } from './scopes.ts';
import { allRights, allScopes, covers, isScope, meaningOf, refusal } from './scopes.ts';

// Who may what, written down a second time: a change of the table is seen here.
const table = `
                   operator  auditor  tenant-admin  member  tenant's auditor
catalogue:read     yes       yes      yes           yes     yes
catalogue:write    yes       -        -             -       -
images:write       yes       -        yes           yes     -
fleet:read         yes       yes      -             -       -
fleet:write        yes       -        -             -       -
tenants:read       yes       yes      yes           yes     yes
tenants:write      yes       -        -             -       -
users:read         yes       yes      yes           yes     yes
users:write        yes       -        yes           -       -
projects:read      yes       yes      yes           yes     yes
projects:write     yes       -        yes           -       -
keys:read          yes       yes      yes           -       yes
keys:write         yes       -        yes           -       -
quotas:read        yes       yes      yes           yes     yes
quotas:ask         yes       -        yes           yes     -
quotas:write       yes       -        -             -       -
servers:read       yes       yes      yes           yes     yes
servers:write      yes       -        yes           yes     -
events:read        yes       yes      yes           yes     yes
audit:read         yes       yes      yes           -       yes`;

test('each role has the rights of the table, by a key of all scopes', (t) => {
  const all: readonly Scope[] = ['*'];
  const standings: readonly Standing[] = [
    { role: 'operator', tenantId: undefined, scopes: all },
    { role: 'auditor', tenantId: undefined, scopes: all },
    { role: 'tenant-admin', tenantId: 'ten_1', scopes: all },
    { role: 'member', tenantId: 'ten_1', scopes: all },
    { role: 'auditor', tenantId: 'ten_1', scopes: all },
  ];
  const rows = table.trim().split('\n').slice(1);
  t.same(
    rows.map((row) => row.split(/\s+/)[0]),
    allRights,
  );
  for (const row of rows) {
    const [right = '', ...said] = row.split(/\s+/);
    const found = standings.map((standing) => refusal(standing, right as (typeof allRights)[number]));
    t.same(
      found,
      said.map((word) => (word === 'yes' ? undefined : 'role')),
      right,
    );
  }
  t.end();
});

test('scopes narrow what a role may, and never widen it', (t) => {
  const member: Standing = { role: 'member', tenantId: 'ten_1', scopes: ['servers:read', 'fleet:read'] };
  t.equal(refusal(member, 'servers:read'), undefined);
  t.equal(refusal(member, 'servers:write'), 'scope', 'what its role may, and its scopes leave out');
  t.equal(refusal(member, 'fleet:read'), 'role', 'what its scopes name, and its role may not');
  t.equal(refusal({ ...member, scopes: [] }, 'servers:read'), 'scope');
  t.end();
});

test('who holds scopes hands out those alone', (t) => {
  t.ok(covers(['*'], ['*', 'servers:read']));
  t.ok(covers(['servers:read', 'keys:write'], ['servers:read']));
  t.notOk(covers(['servers:read'], ['servers:read', 'servers:write']));
  t.notOk(covers([...allRights], ['*']), 'all there are today is less than all there will be');
  t.end();
});

test('a scope is a name of the table or a star, and says what it means', (t) => {
  for (const scope of allScopes) t.ok(isScope(scope) && meaningOf(scope).length > 5, scope);
  for (const other of ['', 'servers', 'servers:*', '**', 7, null]) t.notOk(isScope(other), String(other));
  t.end();
});
