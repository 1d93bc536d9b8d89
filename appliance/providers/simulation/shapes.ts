import { hash } from 'node:crypto';

import type { ProvisionStep } from '../provider.ts';

export const shapeNames = ['openstack', 'vmware', 'proxmox', 'openshift'] as const;
export type ShapeName = (typeof shapeNames)[number];

/** What a server is made of at a kind of provider, and where it is then found. `{cluster}` and `{id}` stand for themselves. */
export interface Shape {
  readonly username: string;
  /** Where the customer finds the provider's API, and the console of what was made. */
  readonly api: string;
  readonly console: string;
  /** The resource whose id the console shows. */
  readonly main: string;
  /** Resources of one step are independent of each other, but for those that they stand `after`. */
  readonly resources: readonly SimulatedKind[];
}

export interface SimulatedKind {
  readonly name: string;
  readonly step: Exclude<ProvisionStep, 'verify'>;
  readonly after?: readonly string[];
  /** As this provider calls things, from what they were made for; the same again for the same. */
  readonly id: (owner: string, kind: string) => string;
  /** Its URL in the provider's API. */
  readonly at: string;
  /** It gives the server its address. */
  readonly addressed?: true;
  /** It is accepted first, and runs later. */
  readonly starts?: true;
}

// `.invalid` is never resolved (RFC 2606): nobody mistakes a simulated endpoint for somebody's.
const os = (service: string, port: number, path: string) =>
  `https://${service}.{cluster}.invalid:${String(port)}${path}/{id}`;
const nsx = (path: string) => `https://nsx.{cluster}.invalid/policy/api/v1/infra/${path}/{id}`;
const vcenter = (path: string) => `https://vcenter.{cluster}.invalid/api/vcenter/${path}/{id}`;
const pve = (path: string) => `https://pve.{cluster}.invalid:8006/api2/json/nodes/pve1/qemu/{id}${path}`;
const kube = (group: string, kind: string) =>
  `https://api.{cluster}.invalid:6443/${group}/namespaces/{id}/${kind}/rackstart`;

/** A real provider of each shape would be asked for the same resources, in the same order. */
export const shapes: Readonly<Record<ShapeName, Shape>> = {
  openstack: {
    username: 'debian',
    api: 'https://keystone.{cluster}.invalid:5000/v3',
    console: 'https://nova.{cluster}.invalid:6080/vnc_lite.html?instance={id}',
    main: 'server',
    resources: [
      { name: 'volume', step: 'allocate', id: uuid, at: os('cinder', 8776, '/v3/volumes') },
      { name: 'port', step: 'allocate', id: uuid, at: os('neutron', 9696, '/v2.0/ports') },
      {
        name: 'floating-ip',
        step: 'allocate',
        id: uuid,
        at: os('neutron', 9696, '/v2.0/floatingips'),
        addressed: true,
      },
      { name: 'security-group', step: 'configure', id: uuid, at: os('neutron', 9696, '/v2.0/security-groups') },
      {
        name: 'security-group-rules',
        step: 'configure',
        after: ['security-group'],
        id: uuid,
        at: os('neutron', 9696, '/v2.0/security-group-rules'),
      },
      { name: 'server', step: 'activate', id: uuid, at: os('nova', 8774, '/v2.1/servers'), starts: true },
    ],
  },
  vmware: {
    username: 'root',
    api: 'https://vcenter.{cluster}.invalid/api',
    console: 'https://vcenter.{cluster}.invalid/ui/webconsole.html?vmId={id}',
    main: 'vm',
    resources: [
      { name: 'folder', step: 'allocate', id: moref('group-v'), at: vcenter('folder') },
      { name: 'vm', step: 'allocate', after: ['folder'], id: moref('vm-'), at: vcenter('vm') },
      {
        name: 'ip-allocation',
        step: 'allocate',
        id: uuid,
        at: nsx('ip-pools/servers/ip-allocations'),
        addressed: true,
      },
      { name: 'security-policy', step: 'configure', id: uuid, at: nsx('domains/default/security-policies') },
      { name: 'customization', step: 'configure', id: moref('custom-'), at: vcenter('guest/customization-specs') },
      { name: 'power', step: 'activate', id: moref('vm-'), at: `${vcenter('vm')}/power`, starts: true },
    ],
  },
  proxmox: {
    username: 'root',
    api: 'https://pve.{cluster}.invalid:8006/api2/json',
    console: 'https://pve.{cluster}.invalid:8006/?console=kvm&novnc=1&node=pve1&vmid={id}',
    main: 'qemu',
    resources: [
      { name: 'qemu', step: 'allocate', id: vmid, at: pve('/config') },
      { name: 'disk', step: 'allocate', after: ['qemu'], id: vmid, at: pve('/resize') },
      { name: 'ip-set', step: 'allocate', id: vmid, at: pve('/firewall/ipset'), addressed: true },
      { name: 'cloud-init', step: 'configure', id: vmid, at: pve('/cloudinit') },
      { name: 'firewall', step: 'configure', id: vmid, at: pve('/firewall/rules') },
      { name: 'run', step: 'activate', id: vmid, at: pve('/status/current'), starts: true },
    ],
  },
  openshift: {
    username: 'system:serviceaccount:rackstart',
    api: 'https://api.{cluster}.invalid:6443',
    console: 'https://console-openshift-console.apps.{cluster}.invalid/k8s/cluster/projects/{id}',
    main: 'namespace',
    resources: [
      {
        name: 'namespace',
        step: 'allocate',
        id: namespace,
        at: 'https://api.{cluster}.invalid:6443/api/v1/namespaces/{id}',
      },
      {
        name: 'resource-quota',
        step: 'allocate',
        after: ['namespace'],
        id: namespace,
        at: kube('api/v1', 'resourcequotas'),
      },
      { name: 'limit-range', step: 'allocate', after: ['namespace'], id: namespace, at: kube('api/v1', 'limitranges') },
      {
        name: 'role-binding',
        step: 'configure',
        id: namespace,
        at: kube('apis/rbac.authorization.k8s.io/v1', 'rolebindings'),
      },
      {
        name: 'network-policy',
        step: 'configure',
        id: namespace,
        at: kube('apis/networking.k8s.io/v1', 'networkpolicies'),
      },
      { name: 'service-account', step: 'activate', id: namespace, at: kube('api/v1', 'serviceaccounts'), starts: true },
    ],
  },
};

function uuid(owner: string, kind: string): string {
  const hex = hash('sha256', `${owner}/${kind}`);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** vSphere's managed object references. */
function moref(prefix: string): (owner: string) => string {
  return (owner) => `${prefix}${String(digits(owner))}`;
}

/** Proxmox VE takes 100 to 999999999. */
function vmid(owner: string): string {
  return String(100 + (digits(owner) % 999_999_900));
}

/** An RFC 1123 label. */
function namespace(owner: string): string {
  return `rs-${hash('sha256', owner).slice(0, 16)}`;
}

function digits(owner: string): number {
  return parseInt(hash('sha256', owner).slice(0, 12), 16);
}
