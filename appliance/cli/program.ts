import { Command } from 'commander';

import { accessCommands } from './access.ts';
import { auditCommand } from './audit.ts';
import { bootCommands } from './boots.ts';
import type { CliContext } from './context.ts';
import { databaseCommands } from './database.ts';
import { demoCommand } from './demo.ts';
import { discoveredCommands } from './discovered.ts';
import { eventCommands } from './events.ts';
import { flavorCommands } from './flavors.ts';
import { guardsCommand } from './guards.ts';
import { poolsCommand } from './pools.ts';
import { handoffCommands } from './handoffs.ts';
import { imageCommands, ramdiskCommands } from './images.ts';
import { keyCommands } from './keys.ts';
import { leaseCommands } from './leases.ts';
import { machineCommands } from './machines.ts';
import { manifestCommands } from './manifest.ts';
import { performanceCommand } from './performance.ts';
import { placementCommand } from './placement.ts';
import { placeCommands } from './places.ts';
import { projectCommands } from './projects.ts';
import { quotaCommands } from './quotas.ts';
import { serveCommand } from './serve.ts';
import { serverCommands } from './servers.ts';
import { stuckCommands } from './stuck.ts';
import { orphansCommand } from './sweep.ts';
import { subnetCommands } from './subnets.ts';
import { tenantCommands } from './tenants.ts';
import { userCommands } from './users.ts';

/** Every command of `rackstart`. `parseAsync` rejects with what went wrong, usage and help included (CommanderError). */
export function createProgram(context: CliContext): Command {
  const program = new Command('rackstart')
    .description('A bare-metal provisioning appliance: from an API call to SSH.')
    .configureOutput({
      writeOut: (text) => void context.stdout.write(text),
      writeErr: (text) => void context.stderr.write(text),
    })
    .showHelpAfterError('(add --help for what there is)')
    .exitOverride();
  serveCommand(program, context);
  serverCommands(program, context);
  machineCommands(program, context);
  manifestCommands(program, context);
  discoveredCommands(program, context);
  bootCommands(program, context);
  placeCommands(program, context);
  flavorCommands(program, context);
  subnetCommands(program, context);
  leaseCommands(program, context);
  performanceCommand(program, context);
  stuckCommands(program, context);
  eventCommands(program, context);
  guardsCommand(program, context);
  poolsCommand(program, context);
  placementCommand(program, context);
  handoffCommands(program, context);
  accessCommands(program, context);
  orphansCommand(program, context);
  tenantCommands(program, context);
  userCommands(program, context);
  projectCommands(program, context);
  keyCommands(program, context);
  auditCommand(program, context);
  quotaCommands(program, context);
  imageCommands(program, context);
  ramdiskCommands(program, context);
  databaseCommands(program, context);
  demoCommand(program, context);
  return program;
}
