/** `node lab/traces/generate.ts`: writes the committed traces anew; they come out as they are unless `demand.ts` was changed. */
import { writeFileSync } from 'node:fs';

import { makeDemands } from './demand.ts';
import { formatTrace, tracePath } from './trace-file.ts';

for (const demand of makeDemands()) {
  writeFileSync(tracePath(demand.name), formatTrace(demand));
  console.log(`${demand.name}: ${demand.orders.length} orders of ${demand.capacity} machines`);
}
