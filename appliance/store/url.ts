import { RackstartError } from '../kernel/errors.ts';

export type StoreAddress =
  | { dialect: 'sqlite'; path: string }
  /** `url` is without the password, fit for a log or an argument list. */
  | { dialect: 'postgres'; url: string; password: string | undefined };

/** Takes a store's URL apart; `config.invalid` unless it is `sqlite:PATH` or `postgres://…/DATABASE`. */
export function parseStoreUrl(url: string): StoreAddress {
  if (url.startsWith('sqlite:')) {
    const path = url.slice('sqlite:'.length);
    // SQLite gives ':memory:' and '' a database of its own per connection, and we open two.
    if (path === '' || path === ':memory:') throw invalid('A SQLite database needs the path of a file.');
    return { dialect: 'sqlite', path };
  }
  if (!/^postgres(ql)?:\/\//.test(url)) {
    throw invalid('A database is named as sqlite:/path/file.db or postgres://user@host/database.');
  }
  if (!URL.canParse(url)) throw invalid('The postgres:// URL of the database does not parse.');
  const parts = new URL(url);
  if (parts.pathname.length < 2) throw invalid('The postgres:// URL names no database after the host.');
  const password = parts.password === '' ? undefined : decodeURIComponent(parts.password);
  parts.password = '';
  return { dialect: 'postgres', url: parts.href, password };
}

function invalid(message: string): RackstartError {
  return new RackstartError('config.invalid', message);
}
