#!/bin/sh
# mmdebstrap --customize-hook of the plain image: started as quickly as a server in a rack can be.
set -eu
root=$1

# Nobody waits at boot for what a server in a rack does not need or what the network does by itself.
for unit in \
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
  systemd-networkd-wait-online.service systemd-network-generator.service systemd-pstore.service \
  systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-update-done.service ldconfig.service \
  systemd-update-utmp.service systemd-update-utmp-runlevel.service \
  modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@fuse.service modprobe@loop.service \
  sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
  dev-hugepages.mount dev-mqueue.mount; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
chroot "$root" systemctl enable --quiet systemd-networkd.service ssh.service serial-getty@ttyS0.service
chroot "$root" systemctl disable --quiet getty@tty1.service

printf 'UUID=%s / ext4 defaults,noatime 0 1\n' "$ROOT_UUID" >"$root/etc/fstab"
