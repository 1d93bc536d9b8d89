#!/bin/sh
# mmdebstrap --customize-hook: from a Debian tree to one that serves as an image. Whatever makes one server different from
# another (keys, machine-id, addresses, host name) stays out: it is injected on the way to the disk.
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

cat >"$root/etc/ssh/sshd_config.d/rackstart.conf" <<'CONF'
PermitRootLogin prohibit-password
PasswordAuthentication no
CONF
rm -f "$root"/etc/ssh/ssh_host_*
mkdir -p "$root/root/.ssh"
chmod 700 "$root/root/.ssh"

: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
echo localhost >"$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
printf 'UUID=%s / ext4 defaults,noatime 0 1\n' "$ROOT_UUID" >"$root/etc/fstab"

# What building needed and a server must not inherit.
rm -f "$root/etc/resolv.conf" "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log "$root"/var/log/apt "$root"/tmp/*
