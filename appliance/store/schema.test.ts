import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { sql } from 'kysely';
import ts from 'typescript';

import type { Store } from './store.ts';
import { eachStore } from './test-stores.ts';

eachStore('schema.ts and the migrations tell the same tables, columns, types and nullability', async (t, store) => {
  const inCode = declaredTables();
  const inDatabase = await actualTables(store);
  t.ok(Object.keys(inCode).length > 20, 'the declarations were found');
  t.strictSame(inDatabase, inCode);
});

/** Table → column → `text`, `number`, with `?` where it may be null. */
type Tables = Record<string, Record<string, string>>;

async function actualTables(store: Store): Promise<Tables> {
  const columns = await store.transaction((tx) =>
    store.dialect === 'sqlite'
      ? sql<Column>`select m.name as "table", c.name as "column", c.type, c."notnull" = 0 as nullable
          from sqlite_schema m join pragma_table_info(m.name) c where m.type = 'table'`.execute(tx)
      : sql<Column>`select table_name as "table", column_name as "column", data_type as type,
          case is_nullable when 'YES' then 1 else 0 end as nullable
          from information_schema.columns where table_schema = 'public'`.execute(tx),
  );
  const tables: Tables = {};
  for (const { table, column, type, nullable } of columns.rows) {
    if (table === 'schema_migrations') continue; // the store's own, see migrate.ts
    (tables[table] ??= {})[column] = (type.toLowerCase() === 'text' ? 'text' : numberOf(type)) + (nullable ? '?' : '');
  }
  return sorted(tables);
}

interface Column {
  table: string;
  column: string;
  type: string;
  nullable: 0 | 1;
}

function numberOf(type: string): string {
  return ['integer', 'bigint'].includes(type.toLowerCase()) ? 'number' : type;
}

function declaredTables(): Tables {
  const parts = join(import.meta.dirname, 'schema');
  const files = [join(import.meta.dirname, 'schema.ts'), ...readdirSync(parts).map((part) => join(parts, part))];
  const interfaces = new Map<string, ts.InterfaceDeclaration>();
  const aliases = new Map<string, ts.TypeNode>();
  for (const file of files) {
    for (const statement of ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, true)
      .statements) {
      if (ts.isInterfaceDeclaration(statement)) interfaces.set(statement.name.text, statement);
      if (ts.isTypeAliasDeclaration(statement)) aliases.set(statement.name.text, statement.type);
    }
  }
  const members = (name: string) =>
    interfaces
      .get(name)!
      .members.filter(ts.isPropertySignature)
      .map((member) => [(member.name as ts.Identifier).text, member.type!] as const);

  const kinds = (type: ts.TypeNode): string[] => {
    if (ts.isUnionTypeNode(type)) return type.types.flatMap(kinds);
    if (ts.isTypeReferenceNode(type)) return kinds(aliases.get((type.typeName as ts.Identifier).text)!);
    if (type.kind === ts.SyntaxKind.StringKeyword) return ['text'];
    if (type.kind === ts.SyntaxKind.NumberKeyword) return ['number'];
    if (!ts.isLiteralTypeNode(type)) return [type.getText()];
    if (type.literal.kind === ts.SyntaxKind.NullKeyword) return ['null'];
    return [ts.isStringLiteral(type.literal) ? 'text' : 'number'];
  };
  const columnOf = (type: ts.TypeNode): string => {
    const found = new Set(kinds(type));
    const nullable = found.delete('null');
    return [...found].join(' or ') + (nullable ? '?' : '');
  };
  const tables = members('Database').map(([table, row]) => {
    const columns = members(((row as ts.TypeReferenceNode).typeName as ts.Identifier).text);
    return [table, Object.fromEntries(columns.map(([column, type]) => [column, columnOf(type)]))] as const;
  });
  return sorted(Object.fromEntries(tables));
}

function sorted(tables: Tables): Tables {
  const byName = ([a]: [string, unknown], [b]: [string, unknown]) => a.localeCompare(b);
  const entries = Object.entries(tables).sort(byName);
  return Object.fromEntries(
    entries.map(([table, row]) => [table, Object.fromEntries(Object.entries(row).sort(byName))]),
  );
}
