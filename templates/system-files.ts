import { isIP, isIPv6 } from 'node:net';

import { RackstartError } from '../appliance/kernel/errors.ts';
import { authorizedKeys } from './authorized-keys.ts';
import type {
  HostsContext,
  NetworkConfigContext,
  NetworkdContext,
  SystemContext,
  SystemFile,
  SystemInterface,
} from './context.ts';
import { loadTemplate } from './render.ts';

/**
 * The files that make an installed image this server: access, name, static network by NIC role, cloud-init's NoCloud
 * seed, and where the agent finds the appliance. The agent's program and its credential come from elsewhere.
 *
 * Errors: `config.invalid`, naming what can't be written; nothing half-written is returned.
 */
export type SystemFiles = (context: SystemContext) => SystemFile[];

/** Reads and compiles the templates once. */
export function loadSystemFiles(): SystemFiles {
  const hostnameFile = loadTemplate<{ hostname: string }>('system/hostname', 'word');
  const hosts = loadTemplate<HostsContext>('system/hosts', 'word');
  const resolvConf = loadTemplate<{ dns: readonly string[] }>('system/resolv.conf', 'word');
  const agentConf = loadTemplate<{ url: string; server: string }>('system/agent.conf', 'word');
  const customer = loadTemplate<NetworkdContext>('networkd/customer.network', 'ini');
  const provisioning = loadTemplate<NetworkdContext>('networkd/provisioning.network', 'ini');
  const metaData = loadTemplate<{ instanceId: string; hostname: string }>('cloud-init/meta-data', 'yaml');
  const userData = loadTemplate<{ hostname: string }>('cloud-init/user-data', 'yaml');
  const networkConfig = loadTemplate<NetworkConfigContext>('cloud-init/network-config', 'yaml');
  const cloudConfig = loadTemplate<object>('cloud-init/rackstart.cfg', 'yaml');

  return (context) => {
    const { hostname, instanceId, interfaces, agent } = context;
    checkHostname(hostname);
    interfaces.forEach(checkInterface);
    const seed = 'var/lib/cloud/seed/nocloud';
    const networkd = interfaces.map((nic) => ({
      // Before netplan's, which begin with 10: the first file that matches an interface is taken.
      path: `etc/systemd/network/05-rackstart-${nic.mac.replaceAll(':', '')}.network`,
      mode: 0o644,
      content: (nic.role === 'provisioning' ? provisioning : customer)(networkdContext(nic)),
    }));
    const dns = nameServers(interfaces);
    return [
      { path: 'root/.ssh/', mode: 0o700 },
      { path: 'root/.ssh/authorized_keys', mode: 0o600, content: authorizedKeys(context.sshKeys) },
      { path: 'etc/hostname', mode: 0o644, content: hostnameFile({ hostname }) },
      { path: 'etc/hosts', mode: 0o644, content: hosts(hostsContext(context)) },
      ...networkd,
      ...(dns.length === 0 ? [] : [{ path: 'etc/resolv.conf', mode: 0o644, content: resolvConf({ dns }) }]),
      { path: `${seed}/meta-data`, mode: 0o644, content: metaData({ instanceId, hostname }) },
      // It may hold the tenant's secrets; cloud-init reads it as root.
      { path: `${seed}/user-data`, mode: 0o600, content: context.userData ?? userData({ hostname }) },
      { path: `${seed}/network-config`, mode: 0o644, content: networkConfig(networkConfigContext(interfaces)) },
      { path: 'etc/cloud/cloud.cfg.d/99-rackstart.cfg', mode: 0o644, content: cloudConfig({}) },
      { path: 'etc/rackstart/agent.conf', mode: 0o644, content: agentConf(agent) },
      { path: 'etc/rackstart/ca.pem', mode: 0o644, content: certificate(context.caPem) },
    ];
  };
}

function networkdContext({ mac, addresses, gateways, dns }: SystemInterface): NetworkdContext {
  return { mac, addresses, gateways, dns, ipv6: addresses.some((address) => isIPv6(withoutPrefix(address))) };
}

function networkConfigContext(interfaces: readonly SystemInterface[]): NetworkConfigContext {
  return {
    interfaces: interfaces.map(({ mac, role, addresses, gateways, dns }) => ({
      key: `rackstart-${mac.replaceAll(':', '')}`,
      mac,
      addresses,
      // Not `default`: cloud-init before 23.2 takes networks alone.
      routes: role === 'provisioning' ? [] : gateways.map((via) => ({ to: isIPv6(via) ? '::/0' : '0.0.0.0/0', via })),
      dns: role === 'provisioning' ? [] : dns,
    })),
  };
}

/** The name under the addresses it is reached by, as Debian does for a permanent address; alias is the first label. */
function hostsContext({ hostname, interfaces }: SystemContext): HostsContext {
  const [first = hostname] = hostname.split('.');
  const alias = first === hostname ? null : first;
  const addresses = interfaces.filter(({ role }) => role !== 'provisioning').flatMap((nic) => nic.addresses);
  return { addresses: addresses.map((address) => ({ address: withoutPrefix(address), hostname, alias })) };
}

/** resolv.conf(5): MAXNS is 3, the rest is never asked. */
function nameServers(interfaces: readonly SystemInterface[]): string[] {
  const all = interfaces.filter(({ role }) => role !== 'provisioning').flatMap(({ dns }) => dns);
  return [...new Set(all)].slice(0, 3);
}

// RFC 1123 §2.1 labels; the kernel's HOST_NAME_MAX is 64.
function checkHostname(hostname: string): void {
  const label = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i;
  if (hostname.length > 64 || !hostname.split('.').every((part) => label.test(part))) {
    throw new RackstartError('config.invalid', 'The hostname is not one (RFC 1123, at most 64 characters).');
  }
}

function checkInterface({ mac, role, addresses, gateways, dns }: SystemInterface): void {
  const wellFormed =
    /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/.test(mac) &&
    addresses.length > 0 &&
    addresses.every(isAddressWithPrefix) &&
    [...gateways, ...dns].every(isAddress) &&
    (role !== 'provisioning' || gateways.length === 0);
  if (!wellFormed) throw new RackstartError('config.invalid', `A ${role} interface of the plan is not well-formed.`);
}

function isAddressWithPrefix(text: string): boolean {
  const [address = '', prefix = '', ...rest] = text.split('/');
  const longest = isIPv6(address) ? 128 : 32;
  return isAddress(address) && /^\d{1,3}$/.test(prefix) && Number(prefix) <= longest && rest.length === 0;
}

// A zone (`fe80::1%eth0`) names an interface of this host, which means nothing on another.
const isAddress = (text: string) => isIP(text) !== 0 && !text.includes('%');

const withoutPrefix = (address: string) => address.replace(/\/.*/, '');

function certificate(pem: string): string {
  if (/^(?:-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n?)+$/.test(pem)) return pem;
  throw new RackstartError('config.invalid', "The appliance's CA certificate is not PEM.");
}
