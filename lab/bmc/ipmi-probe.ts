/**
 * `node ipmi-probe.ts ADDRESS PORT`: ends well as soon as a BMC answers there, with an error after ten seconds.
 * It asks what every IPMI client asks first, Get Channel Authentication Capabilities (IPMI 2.0 §22.13), in the
 * sessionless IPMI 1.5 wrapper every BMC understands (§13.6), because a bound socket may belong to a BMC still starting.
 */
import { createSocket } from 'node:dgram';

const EVERY_MS = 20;
const PATIENCE_MS = 10_000;

const rmcp = '0600ff07';
const session = '000000000000000000' + '09';
const request = '2018c8' + '810038' + '8e04' + 'b5'; // IPMI 2.0 data wanted, this channel, administrator

const [address = '127.0.0.1', port = '623'] = process.argv.slice(2);
const socket = createSocket('udp4');
const ask = () => socket.send(Buffer.from(rmcp + session + request, 'hex'), Number(port), address);
socket.on('error', () => undefined);
socket.on('message', () => process.exit(0));
setInterval(ask, EVERY_MS);
setTimeout(() => process.exit(1), PATIENCE_MS);
ask();
