import type { Pool } from 'pg';

/**
 * Has the database write down what is done to the simulated cluster, as a real one's own log would: `asked` for each resource that
 * a worker wants made, also where it is there already, `made` and `removed` where that changed anything. Workers know nothing of
 * it, and what they do in a transaction that fails is not in it.
 */
export async function recordEffects(database: Pool): Promise<void> {
  await database.query(`
    create schema storm;
    create table storm.effects (number bigserial primary key, effect text, kind text, name text);
    create function storm.record() returns trigger language plpgsql as $$
      begin
        insert into storm.effects (effect, kind, name)
          values (tg_argv[0], coalesce(new.kind, old.kind), coalesce(new.name, old.name));
        return coalesce(new, old);
      end
    $$;
    create trigger asked before insert on simulated_resources for each row execute function storm.record('asked');
    create trigger made after insert on simulated_resources for each row execute function storm.record('made');
    create trigger removed after delete on simulated_resources for each row execute function storm.record('removed');
  `);
}
