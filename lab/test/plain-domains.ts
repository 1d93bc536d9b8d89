/**
 * Loaded before a test file (`node --import`), for the domains that tap runs tests in. Those follow every promise of the process
 * until it is collected, to tell which test a stray error belongs to: a third of the processor time of the tests that run whole
 * daemons. Without them a stray error ends the file, which has failed then; a file run by itself (`node FILE`) tells which test it was.
 */
import { registerHooks } from 'node:module';

const NO_DOMAIN = 'data:text/javascript,export class Domain { destroy() {} }';

registerHooks({
  resolve: (specifier, context, next) =>
    specifier === 'async-hook-domain' ? { url: NO_DOMAIN, shortCircuit: true } : next(specifier, context),
});
