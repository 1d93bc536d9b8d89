# shellcheck shell=sh
# From an image on a disk to this one server: its root grown to the disk's end, its files, its identity, and into it.

stage_grow() {
  disk=$(cat "$RUN/disk")
  number=$(order root_partition '[1-9][0-9]?')
  order root_fs 'ext4' >/dev/null
  root=$(partition "$disk" "$number")

  sfdisk --quiet --relocate gpt-bak-std "$disk"
  echo ', +' | sfdisk --quiet --no-reread -N "$number" "$disk"
  read_partitions || fail boot.stage-failed "the kernel does not read the partition table of $disk: $(last_words)"
  if command -v udevadm >/dev/null; then udevadm settle --timeout 30; fi
  wait_until 100 0.1 test -b "$root" || fail image.invalid "the image has no partition $number"

  mkdir -p "$NEW"
  mount -t ext4 "$root" "$NEW"
  resize2fs "$root"
  echo "$root" >"$RUN/root"
  echo "root_bytes=$(blockdev --getsize64 "$root")" >"$RUN/facts"
}

stage_inject() {
  status=$(insist /boot/v1/files --max-time 120)
  [ "$status" = 200 ] || fail boot.stage-failed "the server's files did not come: status $status $(complaint)"
  # Directories that the image does not have are made as everybody expects them.
  umask 022
  tar -x -C "$NEW" --no-same-owner --preserve-permissions -f "$RUN/answer"

  machine_id=$(tr -d '\n-' <"$PROC/sys/kernel/random/uuid")
  rm -f "$NEW/etc/machine-id"
  echo "$machine_id" >"$NEW/etc/machine-id"
  chmod 444 "$NEW/etc/machine-id"

  # Keys that an image may bring are known to everybody who has the image.
  rm -f "$NEW"/etc/ssh/ssh_host_*
  mkdir -p "$NEW/etc/ssh"
  ssh-keygen -q -t ed25519 -N '' -C '' -f "$NEW/etc/ssh/ssh_host_ed25519_key"
  chmod 644 "$NEW/etc/ssh/ssh_host_ed25519_key.pub"
  {
    echo "host_key=$(cut -d' ' -f1,2 "$NEW/etc/ssh/ssh_host_ed25519_key.pub")"
    echo "machine_id=$machine_id"
  } >"$RUN/facts"
}

# Into the new system without another round through the firmware. Loading comes first, so that the disk is at rest when
# the machine leaves.
stage_kexec() {
  arguments=$(order kernel_args '[0-9A-Za-z=,._:/@+ -]{0,1000}')
  root=$(cat "$RUN/root")
  uuid=$(blkid -o value -s UUID "$root")
  kernel=$(find "$NEW/boot" -maxdepth 1 -name 'vmlinuz-*' | sort -V | tail -n 1)
  [ -n "$kernel" ] || fail image.invalid 'the image has no kernel in /boot'
  initrd=$NEW/boot/initrd.img-${kernel##*/vmlinuz-}
  [ -f "$initrd" ] || fail image.invalid "the image has no ${initrd#"$NEW"}"

  kexec --load "$kernel" --initrd="$initrd" --command-line="root=UUID=$uuid ro $arguments"
  umount "$NEW"
  sync
  kexec --exec
}
