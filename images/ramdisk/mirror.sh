# shellcheck shell=sh disable=SC2154 # names that other parts give
# A root on two disks, of which either may die: RAID 1 over the two root partitions, and before them the same on both disks, so that
# firmware starts from either one. An array of whole disks would have the firmware's table and ESP within it, which firmware writes
# to behind its back.
#
# The superblock is of version 1.0, at the end of each partition: the file system stays where it begins, and so GRUB reads each
# half as the plain file system that it is. Kernel and blkid see members of an array, so that the root's UUID means the array alone.

MIRROR=${MIRROR:-/dev/md0}
NO_ROOM='the image fills the smaller disk of the mirror'

# Before a byte is written.
read_mirror() {
  mirror=$(disk_of mirror)
  [ -n "$mirror" ] || return 0
  [ "$(order root_fs 'ext4|xfs|btrfs')" != btrfs ] || fail image.invalid 'a root on btrfs is not mirrored by an array'
  case " $(order kernel_args "$KERNEL_ARGUMENTS")" in
    *' root='*) fail image.invalid "the image's kernel arguments name a root of their own, which would be one half of the mirror" ;;
  esac
}

# Of a root partition that fits on both disks, in sectors; a MiB is left to the backup of the table.
mirrored_size() {
  other=/dev/$mirror
  sector=$(blockdev --getss "$disk")
  [ "$(blockdev --getss "$other")" = "$sector" ] || fail boot.disk-rule "$disk and $other count in sectors of different sizes"
  smaller=$(printf '%s\n' "$(blockdev --getsize64 "$disk")" "$(blockdev --getsize64 "$other")" | sort -n | head -n 1)
  size=$(((smaller / MIB - 1) * (MIB / sector) - $(root_place 2)))
  [ "$size" -ge "$(root_place 3)" ] || fail image.invalid "$NO_ROOM"
  echo "$size"
}

# root_place COLUMN: in the table as the image brought it, the start (2) or the size (3) of the root, in sectors.
root_place() {
  partitions "$RUN/table" | awk -v root="$(partition "$disk" "$number")" -v column="$1" '$1 == root { print $column }'
}

# An array of one half yet, in which what the image has written stays in place. From here on it is the root.
make_mirror() {
  modprobe raid1
  mdadm --create "$MIRROR" --run --metadata=1.0 --level=1 --raid-devices=2 --bitmap=internal --homehost=any --name=root \
    "$root" missing || fail boot.stage-failed "the array can't be made: $(last_words)"
  [ "$(blockdev --getsize64 "$MIRROR")" -ge $(($(root_place 3) * $(blockdev --getss "$disk"))) ] || fail image.invalid "$NO_ROOM"
  root=$MIRROR
}

# What would not start again, with both disks or with one, is refused before anybody sees it start once. mdadm of Debian and its
# kin has its own hook in each initramfs, which assembles what any host may have: no line of mdadm.conf is needed.
require_mirrorable() {
  if [ ! -e "$NEW/usr/share/initramfs-tools/hooks/mdadm" ] || [ ! -x "$NEW/usr/sbin/mdadm" ]; then
    fail image.invalid 'the image has no mdadm in its initramfs: it would not find a mirrored root'
  fi
  [ -z "$(fstab_field 1 /boot)" ] || fail image.invalid 'the image has its /boot on another partition, which is not mirrored'
  menu=$NEW/boot/grub/grub.cfg
  if is_directory /boot && is_directory /boot/grub && [ -f "$menu" ] && [ ! -L "$menu" ] &&
    grep -q '^[[:space:]]*linux.* root=\(PARTUUID\|PARTLABEL\|/dev/\)' "$menu"; then
    fail image.invalid "the image's GRUB names its root by its partition, which would be one half of the mirror"
  fi
}

# In the fstab of the image, what names one disk alone: the root's partition, and the ESP, without which a server still starts.
mirror_fstab() {
  if [ -n "$(fstab_field 1 /)" ]; then mirrored_line / "$root" "$(fstab_field 4 /)" '0 1'; fi
  [ -n "$(fstab_field 1 /boot/efi)" ] || return 0
  esp=$(partition_with TYPE vfat)
  [ "$(echo "$esp" | wc -w)" = 1 ] || fail image.invalid "not one partition of the image is its ESP: ${esp:-none}"
  options=$(fstab_field 4 /boot/efi)
  mirrored_line /boot/efi "$esp" "${options:-defaults},nofail" '0 0'
}

# mirrored_line MOUNT-POINT DEVICE OPTIONS THE-REST
mirrored_line() {
  type=$(blkid -p -o value -s TYPE "$2")
  printf 'UUID=%s %s %s %s %s\n' "$(blkid -p -o value -s UUID "$2")" "$1" "$type" "${3:-defaults}" "$4" >>"$RUN/fstab"
}

# The other half. All that is before the root is copied as it is, boot code, ESP and all; the table gets identifiers of its own, and
# its backup where this disk ends. Until all of the root is copied, in the new system, this half does not count: an array that loses
# the first one by then is no array, and not an empty file system.
join_mirror() {
  other=/dev/$mirror
  dd if="$disk" of="$other" bs=1M count=$(($(root_place 2) * $(blockdev --getss "$disk"))) iflag=count_bytes conv=notrunc status=none
  sfdisk --dump "$disk" | sed '/^\(label-id\|device\|last-lba\):/d; s/, uuid=[0-9A-Fa-f-]*//' >"$RUN/table.mirror"
  sfdisk --quiet --no-reread --wipe-partitions never "$other" <"$RUN/table.mirror"
  # sfdisk leaves no boot code behind.
  dd if="$disk" of="$other" bs=440 count=1 conv=notrunc,fsync status=none
  half=$(new_partition "$other" "$number")
  mdadm "$MIRROR" --add "$half" || fail boot.stage-failed "$half can't be added to the array: $(last_words)"
}

# There is none but what this ramdisk made: it assembles nothing by itself.
stop_mirror() {
  wait_until 100 0.1 mirror_is_stopped || fail boot.stage-failed "the array can't be stopped: $(last_words)"
}

mirror_is_stopped() {
  if ! grep -qs '^md' "$PROC/mdstat"; then return 0; fi
  mdadm --stop "$MIRROR"
}
