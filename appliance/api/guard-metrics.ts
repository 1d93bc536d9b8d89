import { Counter, Gauge } from 'prom-client';
import type { Registry } from 'prom-client';

import type { GuardView, Guards } from '../kernel/guard.ts';

const circuits = ['closed', 'open', 'half-open'] as const;

/** The clusters that are called. They are as many as there are racks and endpoints, and named by operators. */
export function guardMetrics(registers: Registry[], guards: Guards): void {
  new Gauge({
    name: 'rackstart_guard_circuit',
    help: '1 for the state that the circuit of a cluster is in, 0 for the others.',
    labelNames: ['cluster', 'state'],
    registers,
    collect() {
      for (const { cluster, state } of guards.list()) {
        for (const each of circuits) this.set({ cluster, state: each }, Number(each === state));
      }
    },
  });
  new Gauge({
    name: 'rackstart_guard_calls',
    help: 'Calls to a cluster that are in flight, or wait for their turn.',
    labelNames: ['cluster', 'place'],
    registers,
    collect() {
      for (const { cluster, inFlight, waiting } of guards.list()) {
        this.set({ cluster, place: 'in-flight' }, inFlight);
        this.set({ cluster, place: 'waiting' }, waiting);
      }
    },
  });
  const counted = (name: string, help: string, count: (view: GuardView) => number) =>
    new Counter({
      name: `rackstart_guard_${name}_total`,
      help,
      labelNames: ['cluster'],
      registers,
      collect() {
        this.reset();
        for (const view of guards.list()) this.inc({ cluster: view.cluster }, count(view));
      },
    });
  counted(
    'refused',
    'Calls that were not made: too many were under way, or the circuit was open.',
    (view) => view.refused,
  );
  counted('openings', 'How often a circuit has opened.', (view) => view.openings);
}
