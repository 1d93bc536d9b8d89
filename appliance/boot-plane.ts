import type { KeyObject } from 'node:crypto';
import type { Socket } from 'node:dgram';

import type { ImageStore } from '../images/image-store.ts';
import { ForeignServers } from '../pxe/dhcp/foreign-servers.ts';
import { ProxyDhcp } from '../pxe/dhcp/proxy.ts';
import { StoreLeaseBook } from '../pxe/dhcp/records.ts';
import { RelayAgents } from '../pxe/dhcp/relay.ts';
import { DhcpServer } from '../pxe/dhcp/server.ts';
import type { StoreNetwork } from '../pxe/dhcp/store-networks.ts';
import { StoreNetworks } from '../pxe/dhcp/store-networks.ts';
import type { BootCertificate } from '../pxe/http/certificate.ts';
import { openBootCertificate } from '../pxe/http/certificate.ts';
import type { RamdiskFiles } from '../pxe/http/ramdisk-files.ts';
import { loadRamdisk } from '../pxe/http/ramdisk-files.ts';
import { BootHttp } from '../pxe/http/server.ts';
import { RouterAdvertiser } from '../pxe/router-advertisement.ts';
import { loaderFor, readLoaders } from '../pxe/tftp/loaders.ts';
import { TftpServer } from '../pxe/tftp/server.ts';
import type { Timeline } from '../pxe/timeline.ts';
import { loadBootScripts } from '../templates/boot-scripts.ts';
import type { Config, ProvisioningConfig } from './config.ts';
import type { EventLog } from './events/event-log.ts';
import { SECOND } from './kernel/clock.ts';
import type { Clock } from './kernel/clock.ts';
import type { Ids } from './kernel/ids.ts';
import type { Log } from './kernel/log.ts';
import { openDeviceSocket } from './kernel/native-socket.ts';
import type { Service } from './kernel/service.ts';
import type { Systemd } from './kernel/systemd.ts';
import { Turnstile } from './kernel/turnstile.ts';
import { StoreAgentDesk } from './machines/agent-desk.ts';
import type { Discovery } from './machines/enrolment/discovery.ts';
import { DiscoveryDirector } from './machines/enrolment/discovery-director.ts';
import { StoreBootDirector } from './machines/boot-director.ts';
import type { MachineBell } from './machines/machine-bell.ts';
import { watched } from './machines/watched-director.ts';
import { parseCidr } from './network/address-range.ts';
import type { Store } from './store/store.ts';

export interface BootPlaneDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly bell: MachineBell;
  readonly discovery: Discovery;
  readonly tokenKey: KeyObject;
  readonly images: ImageStore;
  readonly timeline: Timeline;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  /** Gives the listening sockets `dhcp`, `proxydhcp` and `tftp`, where its socket units opened them. */
  readonly systemd: Systemd;
}

/** Everything that answers booting machines on one provisioning network; nothing where none is configured. */
export class BootPlane {
  readonly services: readonly Service[];
  /** Resolves when HTTP listens. */
  readonly ready: Promise<unknown>;
  /** Where installed servers find the appliance. */
  readonly agentUrl: string;
  readonly caPem: string;
  /** Which ramdisk is served. */
  readonly ramdisk: string | undefined;

  private constructor(
    { services, ready, ramdisk }: Pick<BootPlane, 'services' | 'ready' | 'ramdisk'>,
    agentUrl: string,
    caPem: string,
  ) {
    this.services = services;
    this.ready = ready;
    this.ramdisk = ramdisk;
    this.agentUrl = agentUrl;
    this.caPem = caPem;
  }

  /** Errors: `host.missing` naming what to install or build. */
  static async open(config: Config, deps: BootPlaneDeps): Promise<BootPlane> {
    const { provisioning } = config;
    const addresses = provisioning === undefined ? [] : [provisioning.address];
    const certificate = await openBootCertificate({ directory: config.state, addresses, ids: deps.ids });
    const nothing = { services: [], ready: Promise.resolve(), ramdisk: undefined };
    if (provisioning === undefined) return new BootPlane(nothing, '', certificate.ca);
    const ramdisk = await loadRamdisk(config.ramdisk, certificate.ca);
    const { all, http } = await networkServices(provisioning, config.discovery, certificate, ramdisk, deps);
    const agentUrl = `https://${provisioning.address}:${String(provisioning.httpsPort)}`;
    const running = { services: all, ready: http.ready, ramdisk: ramdisk.version };
    return new BootPlane(running, agentUrl, certificate.ca);
  }
}

async function networkServices(
  { device, address, prefix6, httpPort, httpsPort, arm64Loader, dhcp: role, relays }: ProvisioningConfig,
  discovering: Config['discovery'],
  certificate: BootCertificate,
  ramdisk: RamdiskFiles,
  deps: BootPlaneDeps,
): Promise<{ all: readonly Service[]; http: BootHttp }> {
  const { store, events, bell, discovery, tokenKey, images, timeline, clock, ids, log, systemd } = deps;
  const httpBase = `http://${address}:${String(httpPort)}`;
  const loaders = await readLoaders({ arm64: arm64Loader });
  const known = new StoreBootDirector({ store, events, bell, tokenKey, clock, ids, imagesUrl: httpBase });
  const onDiscovered = () => discovery.nudge();
  // Beside another DHCP server no stranger has an address that we know.
  const asked =
    discovering.inspect && role === 'server'
      ? new DiscoveryDirector({ known, store, events, tokenKey, clock, ids, onDiscovered }, discovering)
      : known;
  const director = watched(asked, { store, events, clock });
  const turnstile = new Turnstile(AT_ONCE, TURNS_HELD);
  const imageTurns = new Turnstile(PIECES_AT_ONCE, TURNS_WITHOUT_PIECES);
  const holding = (socket: Socket) =>
    socket.on('message', () => {
      turnstile.hold();
      imageTurns.hold();
    });
  const http = new BootHttp({
    listen: { address, httpPort, httpsPort },
    director,
    agents: new StoreAgentDesk({ store, events, tokenKey, clock }),
    certificate,
    scripts: loadBootScripts(),
    loaders,
    ramdisk,
    frozen: images.frozen,
    timeline,
    turnstile,
    imageTurns,
    clock,
    log,
  });
  const networks = new StoreNetworks({
    read: store.read,
    open: ({ id }) => new StoreLeaseBook({ store, subnetId: id, clock }),
    clock,
  });
  const dhcp = (network: StoreNetwork): readonly Service[] => {
    const { subnet, leases } = network;
    const others = new ForeignServers({
      device,
      subnetId: subnet.id,
      serverAddress: address,
      expected: role === 'proxy',
      store,
      events,
      timeline,
      clock,
      log,
    });
    const common = {
      openSocket: ({ port }: { port: number }) =>
        holding(
          systemd.takeSocket(port === 67 ? 'dhcp' : 'proxydhcp') ??
            openDeviceSocket({ device, port, receiveBuffer: RECEIVE_BUFFER }),
        ),
      relays: new RelayAgents({ relays, networkOf: (each) => networks.of(each), clock }),
      director,
      loaderFor: (architecture: number) =>
        loaders.has(loaderFor(architecture) ?? '') ? loaderFor(architecture) : undefined,
      httpBase,
      timeline,
      clock,
      log,
    };
    if (role === 'proxy') return [others, new ProxyDhcp({ ...common, device, serverAddress: address, network })];
    const { prefixLength } = parseCidr(subnet.cidr);
    const server = new DhcpServer({
      ...common,
      network: { device, serverAddress: address, prefixLength },
      leases,
      onOtherServer: (client, chosen) => others.chosen(client, chosen),
    });
    return [others, server];
  };
  const tftp = new TftpServer({
    endpoints: [{ device, address }],
    files: loaders,
    clock,
    log,
    // Port 0 is a transfer's own.
    open: (options) =>
      holding((options.port === 0 ? undefined : systemd.takeSocket('tftp')) ?? openDeviceSocket(options)),
    onEvent: ({ at, kind, address, packet, ...detail }) =>
      timeline.seen({ address }, { at, source: 'tftp', name: kind, detail, ...(packet && { packet }) }),
  });
  const advertiser =
    prefix6 === undefined ? [] : [new RouterAdvertiser({ links: [{ device, prefix: prefix6 }], clock, log })];
  return { http, all: [http, tftp, onceDescribed({ networks, clock, log }, address, dhcp), ...advertiser] };
}

// A claim or a report is 1 to 2 ms of work. In a storm the packets of firmware come first, and one of five turns has a claim.
const AT_ONCE = 4;
const TURNS_HELD = 4;
// Of images, a batch of up to a whole chunk each, 4 MiB in one system call: 1 ms of the processor. With one in a turn, what else
// waits comes after one client's batch, however many stream; several in a turn have been no faster.
const PIECES_AT_ONCE = 1;
const TURNS_WITHOUT_PIECES = 2;

const LOOK_EVERY = SECOND;
/**
 * Some 2,000 packets: a whole room that is powered on at once, or 0.1 s of the highest rate. The kernel's default is a tenth;
 * with 4 MiB those at the end of the queue had stopped waiting for their answers.
 */
const RECEIVE_BUFFER = 1024 ** 2;

/** A new appliance knows no subnet yet: DHCP begins when an operator has described the one that our address is in. */
function onceDescribed(
  { networks, clock, log }: Pick<BootPlaneDeps, 'clock' | 'log'> & { readonly networks: StoreNetworks },
  address: string,
  serve: (network: StoreNetwork) => readonly Service[],
): Service {
  return {
    name: 'dhcp',
    async run(signal) {
      let network = await networks.of(address);
      if (network === undefined) log.info({ address }, 'DHCP waits until a subnet with our address is added');
      while (network === undefined) {
        await clock.sleepUntil(clock.now() + LOOK_EVERY, signal);
        network = await networks.of(address);
      }
      await Promise.all(serve(network).map((service) => service.run(signal)));
    },
  };
}
