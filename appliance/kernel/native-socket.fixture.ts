import { adoptSocket, openDeviceSocket } from './native-socket.ts';

/**
 * What native-socket.test.ts runs inside a network namespace, or with a descriptor handed over. It hears until its
 * standard input ends.
 *
 *     hear PORT DEVICE...      prints `ready`, then `DEVICE TEXT` for every datagram each device's socket hears
 *     say PORT DEVICE TEXT     broadcasts TEXT on one device
 *     adopt FD                 prints `ready`, then every datagram that the descriptor hears
 */
const [command, first = '', ...rest] = process.argv.slice(2);
const number = Number(first);

if (command === 'hear') {
  const sockets = rest.map((device) => {
    const socket = openDeviceSocket({ device, port: number });
    return socket.on('message', (message) => print(`${device} ${message.toString()}`));
  });
  process.stdin.resume().on('end', () => sockets.forEach((socket) => socket.close()));
  print('ready');
} else if (command === 'say') {
  const [device, text = ''] = rest;
  const socket = openDeviceSocket({ device, port: 0 });
  socket.send(text, number, '255.255.255.255', () => socket.close());
} else {
  const socket = adoptSocket(number).on('message', (message) => print(message.toString()));
  process.stdin.resume().on('end', () => socket.close());
  print('ready');
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
