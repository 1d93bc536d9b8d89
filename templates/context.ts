/** The iPXE script that starts the ramdisk. */
export interface RamdiskScript {
  kernelUrl: string;
  initrdUrl: string;
  /** Where the ramdisk finds the appliance, `https://10.77.0.1:8443`. */
  url: string;
  /** Buys one claim: the only secret that travels in the clear. */
  claimToken: string;
  /** With hyphens, as iPXE writes it. */
  mac: string;
  /** Address and prefix length, `10.77.0.11/24`. */
  address: string;
  gateway: string | null;
}

/** One NIC of the new system. `both`: provisioning and the tenant's network share it. */
export interface SystemInterface {
  /** Lower case, colons. */
  mac: string;
  role: 'provisioning' | 'customer' | 'both';
  /** With prefix length, IPv4 and IPv6. */
  addresses: readonly string[];
  /** At most one a family; a NIC for provisioning alone has none. */
  gateways: readonly string[];
  dns: readonly string[];
}

/** What makes an installed image this server and no other. */
export interface SystemContext {
  hostname: string;
  /** A new value makes cloud-init run its once-per-instance parts. */
  instanceId: string;
  interfaces: readonly SystemInterface[];
  /** OpenSSH public keys, one line each. */
  sshKeys: readonly string[];
  /** The tenant's cloud-init user data, given to cloud-init as it is; null for none. */
  userData: string | null;
  agent: { url: string; server: string };
  /** The appliance's CA certificate, PEM. */
  caPem: string;
}

/** One file of the new system, as the boot plane sends it. */
export interface SystemFile {
  /** Relative, no leading slash, no `..`; one that ends in a slash is a directory. */
  path: string;
  /** Octal permission bits. */
  mode: number;
  content?: string;
  /** A symbolic link instead of content. */
  linkTo?: string;
}

export interface NetworkdContext {
  mac: string;
  /** Whether the interface needs a link-local address. */
  ipv6: boolean;
  addresses: readonly string[];
  gateways: readonly string[];
  dns: readonly string[];
}

export interface NetworkConfigContext {
  interfaces: readonly {
    key: string;
    mac: string;
    addresses: readonly string[];
    routes: readonly { to: string; via: string }[];
    dns: readonly string[];
  }[];
}

export interface HostsContext {
  addresses: readonly { address: string; hostname: string; alias: string | null }[];
}
