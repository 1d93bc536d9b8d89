#!/bin/sh
# mmdebstrap --customize-hook of the image with cloud-init: what Debian's cloud images are beside their packages.
set -eu
root=$1

chroot "$root" systemctl enable --quiet systemd-networkd.service systemd-resolved.service ssh.service
ln -sf /run/systemd/resolve/resolv.conf "$root/etc/resolv.conf"
# The host's own swap is nothing to wait for.
echo RESUME=none >"$root/etc/initramfs-tools/conf.d/resume"

# Else cloud-init generates en_US.UTF-8, of which `path-exclude` has left nothing.
echo LANG=C.UTF-8 >"$root/etc/default/locale"
# Theirs say so, and what we inject says no.
echo 'manage_etc_hosts: true' >"$root/etc/cloud/cloud.cfg.d/01_debian_cloud.cfg"

mkdir -p "$root/boot/efi"
cat >"$root/etc/fstab" <<FSTAB
PARTUUID=$ROOT_PARTUUID / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1
PARTUUID=$ESP_PARTUUID /boot/efi vfat defaults 0 0
FSTAB
