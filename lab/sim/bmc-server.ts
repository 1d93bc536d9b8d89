import { createSocket } from 'node:dgram';
import type { RemoteInfo } from 'node:dgram';
import { once } from 'node:events';

import { systemClock } from '../../appliance/kernel/clock.ts';
import type { Clock } from '../../appliance/kernel/clock.ts';
import type { SimulatedChassis } from './bmc-server-commands.ts';
import { Mishaps } from './bmc-server-faults.ts';
import type { BmcFaults } from './bmc-server-faults.ts';
import { SystemEventLog } from './bmc-server-sel.ts';
import { SensorRepository } from './bmc-server-sensors.ts';
import { SimulatedBmc } from './bmc-server-session.ts';
import { SerialOverLan } from './bmc-server-sol.ts';
import { WatchdogTimer } from './bmc-server-watchdog.ts';

export type { BmcFaults };

/**
 * A BMC in this process that speaks RMCP+ with cipher suites 3 and 17 (`ipmi_sim` knows no SHA-256), for tests and
 * simulated machines: chassis, boot options, sensors, event log, watchdog, serial-over-LAN. It shares no code with our client, and is
 * shown right by `ipmitool` first.
 */
export interface BmcServerOptions {
  address: string;
  /** 0 takes any free port. */
  port: number;
  username: string;
  password: string;
  chassis: SimulatedChassis;
  faults?: BmcFaults;
  /** How many may be logged in at once; 32 unless told. Many real ones have four. */
  sessions?: number;
  clock?: Clock;
}

export interface BmcServer {
  readonly port: number;
  readonly faults: BmcFaults;
  /** How many are logged in. */
  readonly sessions: number;
  /** Pulls its plug and puts it back: it forgets its sessions, and remembers its event log. */
  restart(): void;
  /** Ends it with all its sessions; stopping twice is the same as once. */
  stop(): Promise<void>;
}

export async function startBmcServer(options: BmcServerOptions): Promise<BmcServer> {
  const { chassis, faults = {}, clock = systemClock } = options;
  const socket = createSocket('udp4');
  const mishaps = new Mishaps(faults);
  const timers = new Set<NodeJS.Timeout>();
  let stopped = false;

  const send = (packet: Buffer, to: RemoteInfo) => {
    for (const delay of mishaps.delays()) {
      if (stopped) return;
      if (delay === 0) {
        socket.send(packet, to.port, to.address);
        continue;
      }
      const timer = setTimeout(() => {
        timers.delete(timer);
        socket.send(packet, to.port, to.address);
      }, delay);
      timers.add(timer);
    }
  };
  socket.bind(options.port, options.address);
  await once(socket, 'listening');
  const { port } = socket.address();
  const parts = {
    chassis,
    sensors: new SensorRepository(chassis),
    log: new SystemEventLog(clock),
    sol: new SerialOverLan(chassis.serial, port),
    watchdog: new WatchdogTimer(chassis, clock),
  };
  const bmc = new SimulatedBmc({ ...options, sessions: options.sessions ?? 32, clock }, parts, mishaps);
  socket.on('message', (packet, from) => {
    if (!mishaps.isDeaf()) bmc.hear(packet, (answer) => send(answer, from));
  });
  return {
    port,
    faults,
    get sessions() {
      return bmc.sessions;
    },
    restart: () => bmc.forget(),
    stop: async () => {
      if (stopped) return;
      stopped = true;
      bmc.forget();
      parts.watchdog.stop();
      timers.forEach((timer) => clearTimeout(timer));
      const closed = once(socket, 'close');
      socket.close();
      await closed;
    },
  };
}
