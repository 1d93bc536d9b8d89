import { createSocket } from 'node:dgram';
import { once } from 'node:events';

/** Between a client and a server on 127.0.0.1: what stands on the path can add, change and keep what it likes. */
export interface UdpRelay {
  /** Where the client finds it. */
  readonly port: number;
  /** Packets the client has sent so far. */
  readonly heard: () => number;
  stop(): Promise<void>;
}

/** `rewrite` gives the packets the client gets in place of each answer of the server, in order. */
export async function startUdpRelay(serverPort: number, rewrite: (answer: Buffer) => Buffer[]): Promise<UdpRelay> {
  const front = createSocket('udp4');
  const back = createSocket('udp4');
  let client: number | undefined;
  let heard = 0;
  front.on('message', (packet, from) => {
    client = from.port;
    heard++;
    back.send(packet, serverPort, '127.0.0.1');
  });
  back.on('message', (answer) => {
    for (const packet of rewrite(answer)) front.send(packet, client, '127.0.0.1');
  });
  front.bind(0, '127.0.0.1');
  await once(front, 'listening');
  return {
    port: front.address().port,
    heard: () => heard,
    stop: async () => {
      const closed = Promise.all([once(front, 'close'), once(back, 'close')]);
      front.close();
      back.close();
      await closed;
    },
  };
}
