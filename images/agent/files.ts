import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A file (`content`) or a symbolic link (`linkTo`) of the installed system, owned by root; `path` is relative to its root. */
export interface AgentFile {
  path: string;
  mode: number;
  content?: Buffer;
  linkTo?: string;
}

/**
 * The agent as it goes onto a server: its script, its units, and the links that `systemctl enable` would make. What it
 * reads in /etc/rackstart (agent.conf, agent.header, ca.pem) belongs to the one server and comes from elsewhere.
 */
export function agentFiles(): AgentFile[] {
  const program = file('usr/local/sbin/rackstart-agent', 0o755);
  const units = ['rackstart-agent.service', 'rackstart-heartbeat.service', 'rackstart-heartbeat.timer'];
  const enabled = ['rackstart-agent.service', 'rackstart-heartbeat.timer'];
  return [
    program,
    ...units.map((unit) => file(`etc/systemd/system/${unit}`, 0o644)),
    ...enabled.map((unit) => ({
      path: `etc/systemd/system/multi-user.target.wants/${unit}`,
      mode: 0o777,
      linkTo: `../${unit}`,
    })),
  ];
}

function file(path: string, mode: number): AgentFile {
  const name = path.slice(path.lastIndexOf('/') + 1);
  return { path, mode, content: readFileSync(join(import.meta.dirname, name)) };
}
