# shellcheck shell=sh
# Into the new system by kexec, without another round through the firmware: its own kernel, wherever the image keeps it. Where
# kexec is known to fail, by way of the firmware.

KERNEL_ARGUMENTS='[0-9A-Za-z=,._:/@+ -]{0,1000}'
# What more of the image's fstab would say is nothing that it needs.
MOST_FSTAB=65536

# Loading comes first, so that the disk is at rest when the machine leaves.
stage_kexec() {
  if [ "$(optional handoff 'kexec|reset')" = reset ]; then
    restart
    return
  fi
  arguments=$(order kernel_args "$KERNEL_ARGUMENTS")
  root=$(cat "$RUN/root")
  uuid=$(blkid -p -o value -s UUID "$root")
  mount_boot
  find_kernel
  # Without a checksum of what is loaded, which is computed here and again at the jump: on an emulated machine that is 1.1 of 1.6 s
  # here. Memory that fails in between shows as a system that does not phone home.
  kexec --load --no-checks "$kernel" --initrd="$initrd" --command-line="root=UUID=$uuid ro $arguments"
  unmount_all
  stop_mirror
  sync
  kexec --exec
}

# The appliance knows that we leave, and tells the BMC to start the disk. Firmware that was not told asks the network, which says
# the same. Where the machine does not go down, the BMC resets it in the end.
restart() {
  unmount_all
  stop_mirror
  sync
  sleep "${RESTART_PAUSE:-5}"
  reboot -f
}

# Images may keep kernels on a partition of their own, and name it in their fstab. The image is a stranger's: it is looked
# for on the disk that the image was written to, and nowhere else.
mount_boot() {
  boot=$(fstab_field 1 /boot)
  [ -n "$boot" ] || return 0
  echo "$boot" | grep -Eqx '(UUID|LABEL)=[0-9A-Za-z._-]{1,64}' ||
    fail image.invalid "the image's fstab does not say by UUID or LABEL what /boot is"
  device=$(partition_with "${boot%%=*}" "${boot#*=}")
  [ "$(echo "$device" | wc -w)" = 1 ] || fail image.invalid "not one partition of the image is its /boot, $boot: ${device:-none}"
  type=$(blkid -p -o value -s TYPE "$device")
  case $type in
    ext[234]) type=ext4 ;;
    xfs | btrfs) ;;
    *) fail image.invalid "the image's /boot is a file system of a kind this ramdisk can't read: ${type:-none}" ;;
  esac
  is_directory /boot || fail image.invalid 'the image has no directory /boot to mount its /boot at'
  mount -t "$type" -o ro,nosuid,nodev,noexec "$device" "$NEW/boot" ||
    fail image.invalid "the image's /boot can't be mounted: $(last_words)"
}

# fstab_field COLUMN MOUNT-POINT: of the image's fstab; nothing when it does not mount there. The first column is the device.
fstab_field() {
  fstab=$NEW/etc/fstab
  if ! is_directory /etc || [ ! -f "$fstab" ] || [ -L "$fstab" ]; then return 0; fi
  head -c "$MOST_FSTAB" "$fstab" | awk -v at="$2" -v column="$1" '$1 !~ /^#/ && $2 == at { print $column; exit }' | tr -d '"'
}

# partition_with TAG VALUE: the partitions of this disk of which blkid says so.
partition_with() {
  sfdisk --dump "$(cat "$RUN/disk")" >"$RUN/table"
  for path in $(partitions "$RUN/table" | cut -d' ' -f1); do
    if [ "$(blkid -p -o value -s "$1" "$path")" = "$2" ]; then echo "$path"; fi
  done
}

# is_directory PATH: of the image, and no link that leads out of it.
is_directory() {
  [ -d "$NEW$1" ] && [ ! -L "$NEW$1" ]
}

# The newest one, and its initrd by the name that Debian, Fedora or SUSE give it.
find_kernel() {
  kernel=$(find "$NEW/boot" -maxdepth 1 -type f -name 'vmlinuz-*' | sort -V | tail -n 1)
  [ -n "$kernel" ] || fail image.invalid 'the image has no kernel in /boot'
  version=${kernel##*/vmlinuz-}
  for initrd in "initrd.img-$version" "initramfs-$version.img" "initrd-$version"; do
    initrd=$NEW/boot/$initrd
    if [ -f "$initrd" ] && [ ! -L "$initrd" ]; then return; fi
  done
  fail image.invalid "the image has no initrd for its kernel $version"
}

unmount_all() {
  for place in "$NEW/boot" "$NEW"; do
    if grep -q " $place " "$PROC/mounts"; then umount "$place"; fi
  done
}
