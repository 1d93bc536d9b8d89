#!/bin/sh
# mmdebstrap --essential-hook, before the kernel comes: an initrd with the few drivers listed, so that it is small and quick.
# The installed system is started by kexec with the disks that the ramdisk saw; virtio and NVMe need no more.
set -eu
root=$1

mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/etc/dpkg/dpkg.cfg.d"
cat >"$root/etc/initramfs-tools/conf.d/rackstart" <<'CONF'
MODULES=list
COMPRESS=zstd
COMPRESSLEVEL=3
FSTYPE=ext4
RESUME=none
CONF
mkdir -p "$root/usr/share/initramfs-tools/modules.d"
cat >"$root/usr/share/initramfs-tools/modules.d/rackstart" <<'MODULES'
virtio_pci
virtio_blk
virtio_scsi
virtio_net
nvme
ahci
sd_mod
ext4
MODULES
