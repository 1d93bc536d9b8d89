/**
 * What may be at the bottom of a boot that came to nothing: by a stable code, whose fault it is, and what to do. `blame` has the
 * words of a failed attempt: only what is the machine's own would befall the next boot of it alone.
 */
export const causes = {
  'bmc-credentials': cause('machine', "Enter the BMC's user and password as they are set in it, then run it again."),
  'bmc-privilege': cause('machine', 'Give the BMC user administrator rights on the LAN channel.'),
  'bmc-silent': cause(
    'machine',
    "Look at the BMC's cable and address, and whether IPMI over LAN is switched on in it (UDP port 623).",
  ),
  'bmc-hung': cause('machine', 'Reset the BMC: by its web page, or by taking the machine off the mains for a minute.'),
  'bmc-drops-boot-flag': cause(
    'machine',
    "Update or reset the BMC; until then put the network first in the machine's own boot order.",
  ),
  'bmc-power-unsteady': cause('machine', 'Reset the BMC: it does not know itself whether the machine is on.'),
  'power-stays-off': cause('machine', "Look at the machine's power supplies and mains, and at the BMC's event log."),
  'management-network': cause('network', "Look at the management network: several of this rack's BMCs are silent."),

  'hardware-fault': cause(
    'machine',
    'Replace the part that the event log of the BMC names, or see to what it says; then have the machine checked.',
  ),
  'no-link': cause('machine', "Look at the cable of the NIC, at its switch port, and at the port's VLAN and speed."),
  'boot-order': cause(
    'machine',
    'Put the network before the disk in the firmware; on UEFI remove or move down the entry of the old system.',
  ),
  'post-halted': cause('machine', 'See to what the firmware names: it waits there for a person.'),
  'machine-restarted': cause('machine', "Look at its power supplies, its temperature and the BMC's event log."),

  'relay-refused': cause(
    'network',
    "Name the relay under `provisioning.relays`, with the address that its datagrams come from, and add its clients' subnet; or correct the relay's own address (giaddr).",
  ),
  'machine-swapped': cause(
    'machine',
    'If a board was replaced, take the machine out of the inventory and enrol it again; if not, the cable of another machine is in its place.',
  ),
  'duplicate-mac': cause(
    'network',
    'Find both: by the MAC table of the switch, and by the UUIDs. One NIC (often of a VM, or a cloned one) needs another MAC.',
  ),
  'wrong-switch-port': cause('machine', 'Plug it in where it belongs, or correct the port: `rackstart machine nic`.'),
  'foreign-dhcp-server': cause(
    'network',
    'Find the switch port of its MAC and unplug or silence it; or set `dhcp: proxy` if it is to stay.',
  ),
  'loader-missing': cause(
    'service',
    'Give the daemon a loader for this architecture (arm64: the setting `arm64Loader`), then run it again.',
  ),
  'address-in-use': cause(
    'network',
    'Find who answers at this address (its MAC is in the ARP table of the gateway), and give it another; keep the range of reservations to the appliance.',
  ),
  'address-refused': cause('network', 'The machine came with an address of elsewhere: look which VLAN its port is in.'),
  'offers-not-heard': cause(
    'network',
    'Let the switch trust our port for DHCP (DHCP snooping), and look at the VLAN in both directions.',
  ),

  'tftp-blocked': cause('network', 'Open UDP port 69, and the high ports that TFTP answers from, between them.'),
  'tftp-cut': cause('network', 'Look for loss on the way: cable, duplex, MTU; and for firewalls that forget UDP.'),
  'tftp-refused': cause('service', 'Read the reason; the loaders come from the Debian package `ipxe`.'),
  'loader-hangs': cause('machine', "Update the NIC's and the machine's firmware, or have it boot by HTTP."),
  'http-blocked': cause('network', "Open TCP to the appliance's HTTP port from the provisioning network."),
  'boot-window-closed': cause(
    'service',
    'Raise `deadlines.bootWindow` above what this model takes from its reset to its ramdisk.',
  ),
  'script-refused': cause('service', 'Boot it again through the API; should it come again, look who else asks.'),
  'ramdisk-cut': cause('network', 'Look for loss on the way: cable, duplex, MTU; and for proxies in between.'),
  'ramdisk-not-fetched': cause('network', "Look at iPXE's own message on the machine's screen or console."),

  'ramdisk-panic': cause(
    'machine',
    'Read the lines around it: memory and firmware first; a new model may need a driver.',
  ),
  'machine-hung': cause(
    'machine',
    "Look at the end of its console and at the BMC's event log: memory, processor, firmware; a new model may need a driver.",
  ),
  'ramdisk-network': cause('machine', 'See to what the ramdisk names: link, NIC, or a driver that it lacks.'),
  'clock-off': cause('machine', "Set the machine's clock and replace its battery: it is not between 2000 and 2100."),
  'ca-unknown': cause(
    'service',
    'Something between answers by TLS in our place, or the ramdisk was made for another appliance: look for a TLS proxy.',
  ),
  'ramdisk-version': cause('service', 'Build the ramdisk of this version (`rackstart ramdisk build`), and boot again.'),
  'second-claimant': cause(
    'network',
    'Somebody on the provisioning network has claimed this boot too: see from where, and who else is on that segment.',
  ),

  'image-chunk-altered': cause(
    'network',
    'The image is as it was frozen: look at HTTP caches, cables and network cards on the way.',
  ),
  'image-map-altered': cause(
    'network',
    'Look at caches and proxies on the way; `rackstart doctor` checks our own copy.',
  ),
  'image-not-arriving': cause(
    'network',
    'Look at the way from the image server to the machine, and at the daemon’s log.',
  ),
  'image-unfit': cause('image', 'Mend the image as the reason says, and import it again.'),
  'disk-io-errors': cause('machine', 'Replace the disk; have the new one inspected.'),
  'disk-too-small': cause('machine', 'Inspect the machine again: a disk is missing or was replaced by a smaller one.'),
  'disk-missing': cause('machine', 'Look at the disk, its cable and its controller; or correct the disk rule.'),
  'disk-ambiguous': cause(
    'machine',
    'Name the disk by its serial number in the disk rule, or take the other one out (`rackstart machine disk-plan`).',
  ),

  'kexec-failed': cause('image', "The image's kernel could not be started from the ramdisk: see the reason."),
  'kexec-hang': cause(
    'machine',
    'Switch the machine off and on: it boots its disk. Update its firmware if it comes again.',
  ),
  'system-panic': cause('image', "Read the lines around it: the image's kernel or initrd does not fit this machine."),
  'system-network': cause(
    'image',
    'The new system runs: log in at its console and look at systemd-networkd; the image, the VLAN or the address is wrong.',
  ),

  'ssh-closed': cause('image', 'Have the image start sshd at boot, on port 22.'),
  'ssh-filtered': cause('network', "Open TCP port 22 from the appliance to the servers; look at the image's firewall."),
  'ssh-key-refused': cause('image', "Look at the image's sshd: it must let root in by a key of authorized_keys."),
  'address-taken': cause(
    'network',
    'Another machine answers at the address of this server: find it by its MAC, and give it another address.',
  ),
} as const satisfies Record<string, KnownCause>;

export type Cause = keyof typeof causes;

export type Blame = 'machine' | 'image' | 'network' | 'service';

interface KnownCause {
  readonly blame: Blame;
  readonly remedy: string;
}

function cause(blame: Blame, remedy: string): KnownCause {
  return { blame, remedy };
}
