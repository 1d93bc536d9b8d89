import { sql } from 'kysely';

/**
 * Of a row of `requests`: it is worked on, and what it waits for is a person who says how the server is reached. People take
 * as long as they take: meanwhile it has no place in flight, and its clock stands.
 */
export const awaitsInput = sql<boolean>`(requests.state = 'activating' and exists (
  select 1 from attempts join access_entries on access_entries.attempt_id = attempts.id
  where attempts.request_id = requests.id and access_entries.entered_at is null
))`;
