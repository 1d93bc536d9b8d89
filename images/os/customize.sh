#!/bin/sh
# mmdebstrap --customize-hook: from a Debian tree to one that serves as an image. Whatever makes one server different from
# another (keys, machine-id, addresses, host name) stays out: it is injected on the way to the disk.
set -eu
root=$1

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

# What building needed and a server must not inherit. Not /tmp, nor what apt keeps: mmdebstrap removes those itself, and until
# then its configuration of apt lies in that /tmp. Without it apt would clean up the host.
rm -f "$root/etc/resolv.conf" "$root/etc/.resolv.conf.systemd-resolved.bak"
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
rm -rf "$root"/var/log/*.log "$root"/var/log/apt
