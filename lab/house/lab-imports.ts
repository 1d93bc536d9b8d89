/** What may be imported across the wall between the lab and the rest, and why. Everything else goes through sockets. */
interface Door {
  readonly from: RegExp;
  readonly to: RegExp;
}

const doors: readonly Door[] = [
  // Clock, ids, log, secrets, error codes and seeded chance: the ground that every program of the project stands on.
  { from: /^lab\//, to: /^appliance\/kernel\/(clock|ids|log|secret|errors|seeded)\.ts$/ },
  // The ramdisk and the OS image are built before there is a daemon.
  {
    from: /^lab\/(setup|site|image-proof|appliance-host|bench|e2e)\//,
    to: /^images\/(os|ramdisk)\/(build|artifact-cache)\.ts$/,
  },
  // The floor of a deploy is a script in the place of ours, over the same initrd.
  { from: /^lab\/bench\/warm\/floor\.ts$/, to: /^pxe\/http\/newc\.ts$/ },
  // A proof of ramdisk and agent against a stand-in of the appliance: the real certificate, initrd and agent, and an
  // image that is frozen as the store freezes it.
  {
    from: /^lab\/image-proof\//,
    to: /^(images\/(agent\/files|chunk-directory|freeze)|pxe\/http\/(certificate|ramdisk-files)|templates\/system-files)\.ts$/,
  },
  // Simulated machines speak DHCP by the server's own codec, which udhcpc, dhclient, iPXE and EDK2 have proven: what is put
  // under load is what stands behind it. Their port is one device, as the server's is.
  { from: /^lab\/sim\//, to: /^(pxe\/dhcp\/(packet|options)|appliance\/kernel\/native-socket)\.ts$/ },
  // Their reading of boot scripts and of the ramdisk's CA is held against what really writes them.
  { from: /^lab\/sim\/[^/]+\.test\.ts$/, to: /^(pxe\/http\/newc|templates\/boot-scripts)\.ts$/ },
  // Tests own time.
  { from: /^lab\/sim\/[^/]+\.test\.ts$/, to: /^appliance\/kernel\/manual-clock\.ts$/ },
  // Hostile input is fed to what hears the network, straight and through sockets, on the real store and a frozen image; and to
  // what reads images.
  {
    from: /^lab\/fuzz\//,
    to: /^(pxe\/(dhcp|tftp|http)|templates|images(\/ingest)?|appliance\/(kernel|store|events|machines(\/bmc(\/ipmi)?)?)|pxe)\/[^/]+\.ts$/,
  },
  // The public API is fed as its own tests are, and with one of every kind of thing.
  { from: /^lab\/fuzz\//, to: /^appliance\/api\/(api|things)\.fixture\.ts$/ },
  // The bench of orders needs machines that nobody has to inspect: it writes what inspections would have.
  { from: /^lab\/bench\/api-site\.ts$/, to: /^appliance\/store\/open\.ts$/ },
  // Whole sagas are killed between two writes, on the product's own rooms and the doubles that its tests stand on; ids and
  // boots of a rack that outlives every daemon.
  {
    from: /^lab\/undo-proof\//,
    to: /^(appliance\/(kernel|store|events|saga|tenants|machines|pool|providers|requests)\/|pxe\/|templates\/)/,
  },
  // Sockets that are open when they are had, and ask nobody for the addresses they send to.
  { from: /^lab\/(loss|tftp)\//, to: /^appliance\/kernel\/native-socket\.ts$/ },
  // The bench measures our TFTP server alone, as its peers are, in a process of its own.
  { from: /^lab\/tftp\/serve\.ts$/, to: /^pxe\/tftp\/server\.ts$/ },
  // Its images are frozen as the store freezes them, and written by the ramdisk's own program.
  { from: /^lab\/bench\/write-image\.ts$/, to: /^images\/(chunk-directory|freeze|frozen-images)\.ts$/ },
  // So are the images of these benches; what is sent in another format is taken in as the store does.
  {
    from: /^lab\/bench\/(http|convert)\.ts$/,
    to: /^images\/(chunk-directory|freeze|ingest\/ingest)\.ts$/,
  },
  { from: /^lab\/bench\/write\.ts$/, to: /^images\/ramdisk\/writer\.ts$/ },
  // It counts the chunks that machines are to fetch.
  { from: /^lab\/bench\/storm\.ts$/, to: /^images\/zstd-frames\.ts$/ },
  // The bench measures our IPMI client itself, beside ipmitool.
  { from: /^lab\/bench\/bmc\.ts$/, to: /^appliance\/machines\/bmc\/(bmc|open-bmc)\.ts$/ },
  // The bench replays orders against the decisions themselves: they are pure, and no daemon waits through 90 days.
  { from: /^lab\/bench\/pool[^/]*\.ts$/, to: /^scheduler\/(pool-[a-z]+|forecast\/[a-z-]+)\.ts$/ },
  { from: /^lab\/bench\/placement[^/]*\.ts$/, to: /^scheduler\/placement\.ts$/ },
  // The names of the stages that a flow kills the daemon at, and that the demo shows: a new one must not be left out in silence.
  { from: /^lab\/(e2e|demo)\//, to: /^appliance\/requests\/server-timeline\.ts$/ },
  // The house rules hold the documents against the tables and the schema that run.
  {
    from: /^lab\/house\/.*\.test\.ts$/,
    to: /^(appliance\/(config|cli\/program|requests\/request-states|machines\/machine-states)|pxe\/boot-states)\.ts$/,
  },
];

export function isLabImport(from: string, to: string): boolean {
  return doors.some((door) => door.from.test(from) && door.to.test(to));
}

/**
 * What tests beside the code may take from the lab: peers to talk to (BMCs, PostgreSQL, Redis, TFTP clients), a path that loses
 * packets, a disk to send, and the means to start programs and to wait for them. They import nothing of ours but `kernel/`.
 */
export function isLabPeer(file: string): boolean {
  return /^lab\/((bmc|disk|loss|process)\/[^/]+|tftp\/fetch|sim\/bmc-server[^/]*|test\/(postgres|redis))\.ts$/.test(
    file,
  );
}
