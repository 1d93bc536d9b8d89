import { constants } from 'node:os';

// SIGALRM is how tap ends a test file that takes too long.
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGALRM'] as const;

/**
 * Runs `clean` when this process ends by a signal, an uncaught error or process.exit() before the returned function was
 * called. Only synchronous work counts: nothing else is run then. Several may be registered; each is run once.
 */
export function onAbruptEnd(clean: () => void): () => void {
  // Ending by process.exit() instead of by the signal itself lets everybody else's 'exit' listeners clean up, too.
  const onSignal = (signal: NodeJS.Signals) => process.exit(128 + constants.signals[signal]);
  const cancel = () => {
    process.off('exit', clean);
    for (const signal of signals) process.off(signal, onSignal);
  };
  process.on('exit', clean);
  for (const signal of signals) process.on(signal, onSignal);
  return cancel;
}
