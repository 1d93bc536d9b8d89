import pg from 'pg';

/** A statement as it is sent: prepared on its connection under its name, or without one. */
export interface Part {
  readonly text: string;
  readonly name?: string;
  readonly values: readonly (string | null)[];
}

/**
 * Sends several statements in one message, and gets all their results at once: what costs most of a small statement is the way to
 * the server and back. It runs them in order, and behind one that fails none (PostgreSQL 15 manual, §55.2.3): a statement is never
 * run without the BEGIN before it, and the COMMIT is not run behind one that failed.
 */
export function sendTogether(client: pg.PoolClient, parts: readonly Part[]): Promise<pg.QueryResult[]> {
  return new Promise((resolve, reject) => {
    const query = new pg.Query('', (error: Error | undefined, results: unknown) => {
      if (error) reject(error);
      else resolve((Array.isArray(results) ? results : [results]) as pg.QueryResult[]);
    });
    query.submit = (connection) => submitAll(connection, parts);
    client.query(query);
  });
}

// As `pg` sends a single one, but for the Sync, of which there is one at the end.
function submitAll(connection: pg.Connection, parts: readonly Part[]): void {
  const { stream } = connection;
  stream.cork();
  for (const { text, name, values } of parts) {
    if (name === undefined) connection.parse({ name: '', text, types: [] }, true);
    connection.bind({ statement: name, values: [...values] }, true);
    connection.describe({ type: 'P', name: '' }, true);
    connection.execute({}, true);
  }
  connection.sync();
  stream.uncork();
}

/** Values as the protocol's text; undefined when there is one that is none of those that our statements have singly. */
export function textValues(values: readonly unknown[]): (string | null)[] | undefined {
  const texts: (string | null)[] = [];
  for (const value of values) {
    if (value === null || value === undefined) texts.push(null);
    else if (typeof value === 'string') texts.push(value);
    else if (typeof value === 'number' || typeof value === 'bigint') texts.push(String(value));
    else return undefined;
  }
  return texts;
}
