import type { Socket } from 'node:dgram';
import { EventEmitter, once } from 'node:events';

import type { Test } from 'tap';

import { systemClock, type Clock } from '../../appliance/kernel/clock.ts';
import { silentLog, type Log } from '../../appliance/kernel/log.ts';
import { openDeviceSocket } from '../../appliance/kernel/native-socket.ts';
import { TftpServer, type TftpEvent, type TftpFiles, type TftpLimits } from './server.ts';

/** A server on a free loopback port until the test ends. */
export function startServer(
  t: Test,
  files: TftpFiles,
  {
    clock = systemClock,
    log = silentLog,
    limits = {},
  }: { clock?: Clock; log?: Log; limits?: Partial<TftpLimits> } = {},
) {
  const events: TftpEvent[] = [];
  const told = new EventEmitter();
  const sockets: Socket[] = [];
  const stop = new AbortController();
  const server = new TftpServer({
    endpoints: [{ address: '127.0.0.1' }],
    port: 0,
    files,
    clock,
    log,
    limits,
    onEvent: (event) => {
      events.push(event);
      told.emit('event');
    },
    open: (options) => {
      const socket = openDeviceSocket(options);
      sockets.push(socket);
      return socket;
    },
  });
  const done = server.run(stop.signal);
  t.teardown(async () => {
    stop.abort();
    await done;
  });
  return {
    port: sockets[0]?.address().port ?? 0,
    events,
    /** As if a packet had come from an address and port that no test can send from. */
    forge(text: string, address: string, port: number) {
      sockets[0]?.emit('message', Buffer.from(text, 'latin1'), { address, port, family: 'IPv4', size: text.length });
    },
    async nextEvent() {
      await once(told, 'event');
    },
    async event(kind: TftpEvent['kind']): Promise<TftpEvent> {
      for (;;) {
        const event = events.find((each) => each.kind === kind);
        if (event !== undefined) return event;
        await once(told, 'event');
      }
    },
    stop: async () => {
      stop.abort();
      await done;
    },
  };
}

export function content(size: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: size }, (_, index) => (index * 31) ^ (index >> 8) ^ (index >> 16)));
}
