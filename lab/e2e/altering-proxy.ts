/**
 * `node altering-proxy.ts HOST PORT ONCE ALWAYS`: a wire that alters. It listens on PORT + 1 and passes on what HOST:PORT
 * answers; of two chunks, named by their digests, one comes with another byte in it for the first time, the other each time.
 */
import { createServer, request } from 'node:http';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';

const [host = '', port = '', once = '', always = ''] = process.argv.slice(2);
const waiting = new Set([once]);

const server = createServer((asked, answer) => {
  const { method, url: path = '', headers } = asked;
  const passedOn = request({ host, port, method, path, headers }, (given) => {
    answer.writeHead(given.statusCode ?? 502, given.rawHeaders);
    const sha256 = path.replace('/chunk/', '');
    const altered = sha256 === always || waiting.delete(sha256);
    if (altered) console.log(`altered ${sha256}`);
    // Whoever of the two goes away takes the other along, as a wire does.
    const pipes = altered ? pipeline(given, turnOver(), answer) : pipeline(given, answer);
    pipes.catch(() => answer.destroy());
  });
  passedOn.on('error', () => answer.destroy());
  asked.pipe(passedOn);
});
server.listen(Number(port) + 1, () => console.log('altering'));

/** Another first byte. */
function turnOver(): Transform {
  let isFirst = true;
  return new Transform({
    transform(piece: Buffer, _encoding, done) {
      const other = isFirst ? Buffer.concat([Buffer.of(piece[0]! ^ 0x10), piece.subarray(1)]) : piece;
      isFirst = false;
      done(null, other);
    },
  });
}
