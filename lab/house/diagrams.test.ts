import { test } from 'tap';

import { machineStateDiagram } from '../../appliance/machines/machine-states.ts';
import { requestStateDiagram } from '../../appliance/requests/request-states.ts';
import { bootStateDiagram } from '../../pxe/boot-states.ts';
import { read } from './sources.ts';

const shown = [...read('ARCHITECTURE.md').matchAll(/```mermaid\n([^`]*)```/g)].map(([, diagram = '']) =>
  diagram.trim(),
);

for (const [title, diagram] of [
  ['requests', requestStateDiagram()],
  ['machines', machineStateDiagram()],
  ['boot sessions', bootStateDiagram()],
] as const) {
  test(`ARCHITECTURE.md shows the states of ${title} as the table has them`, (t) => {
    t.ok(shown.includes(diagram.trim()), `write this into ARCHITECTURE.md:\n${diagram}`);
    t.end();
  });
}
