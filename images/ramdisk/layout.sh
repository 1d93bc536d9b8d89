# shellcheck shell=sh disable=SC2034,SC2154 # names that other parts use, or give
# What an order makes of disks beside the root: file systems of their own, and a swap file. Each leaves its line of fstab in
# $RUN/fstab, which is added to the image's when that is there.

MOUNT_POINT='(/[0-9A-Za-z][0-9A-Za-z._-]{0,63}){1,8}'
LABEL='[0-9A-Za-z][0-9A-Za-z._-]{0,15}'

# Before a byte is written: a line of $RUN/data for each data disk, with its number, file system, label and mount point.
read_layout() {
  swap_mib=$(optional swap_mib '[1-9][0-9]{0,6}')
  echo "$swap_mib" >"$RUN/swap"
  number=0
  : >"$RUN/data"
  while [ "$number" -lt "${data_disks:-0}" ]; do
    number=$((number + 1))
    data_fs=$(order "data${number}_fs" 'ext4|xfs')
    label=$(order "data${number}_label" "$LABEL")
    place=$(order "data${number}_mount" "$MOUNT_POINT")
    echo "$number $data_fs $label $place" >>"$RUN/data"
  done
}

make_data_disks() {
  while read -r number data_fs label place; do
    make_data_disk "/dev/$(disk_of "data$number")"
  done <"$RUN/data"
}

# Uses data_fs, label, place. Whatever the disk held is gone. A server whose data disk dies still starts: nofail.
make_data_disk() {
  make_directory "$place"
  echo 'label: gpt
    type=linux' | sfdisk --quiet --no-reread --wipe always --wipe-partitions always "$1"
  device=$(new_partition "$1" 1)
  case $data_fs in
    # The disk was wiped: nothing to discard. Without what e2fsprogs before 1.47 can't check: the image's may be older.
    ext4) mke2fs -q -F -t ext4 -E nodiscard -O '^orphan_file,^metadata_csum_seed' -L "$label" "$device" ;;
    xfs) mkfs.xfs -q -f -K -L "$label" "$device" ;;
  esac
  echo "UUID=$(blkid -p -o value -s UUID "$device") $place $data_fs defaults,nofail 0 2" >>"$RUN/fstab"
}

# new_partition DISK NUMBER: its path, once the kernel knows it.
new_partition() {
  (disk=$1 && read_partitions) || fail boot.stage-failed "the kernel does not read the partition table of $1: $(last_words)"
  if command -v udevadm >/dev/null; then udevadm settle --timeout 30; fi
  wait_until 100 0.1 test -b "$(partition "$1" "$2")" || fail boot.stage-failed "the kernel finds no partition $2 on $1"
  partition "$1" "$2"
}

# A file, since it has the root's redundancy and takes no partition; on btrfs one that is not copied on write.
make_swap() {
  mib=$(cat "$RUN/swap")
  [ -n "$mib" ] || return 0
  swap=$NEW/swapfile
  rm -rf "$swap"
  (
    umask 077
    case $fs in
      btrfs) btrfs filesystem mkswapfile --size "${mib}m" "$swap" ;;
      *) fallocate --length "${mib}MiB" "$swap" && mkswap --quiet "$swap" ;;
    esac
  ) || fail boot.stage-failed "a swap file of $mib MiB can't be made: $(last_words)"
  echo '/swapfile none swap sw 0 0' >>"$RUN/fstab"
}

# Lines of the image that mount where ours do would win or lose by chance: they go, all others stay as they are.
write_fstab() {
  [ -s "$RUN/fstab" ] || return 0
  is_directory /etc || fail image.invalid 'the image has no directory /etc'
  fstab=$NEW/etc/fstab
  : >"$RUN/fstab.image"
  if [ -f "$fstab" ] && [ ! -L "$fstab" ]; then
    [ "$(wc -c <"$fstab")" -le "$MOST_FSTAB" ] || fail image.invalid "the image's fstab is longer than $MOST_FSTAB bytes"
    cp "$fstab" "$RUN/fstab.image"
  fi
  {
    awk 'NR == FNR { if ($2 != "none") ours[$2]; next } $1 ~ /^#/ || !($2 in ours)' "$RUN/fstab" "$RUN/fstab.image"
    cat "$RUN/fstab"
  } >"$RUN/fstab.new"
  rm -rf "$fstab"
  cp "$RUN/fstab.new" "$fstab"
  chmod 644 "$fstab"
}

# make_directory PATH: in the image, where no part of it may be a link: links lead out of it.
make_directory() {
  made=
  rest=${1#/}
  while [ -n "$rest" ]; do
    made=$made/${rest%%/*}
    case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
    if ! is_directory "$made" && ! mkdir -m 755 "$NEW$made"; then
      fail image.invalid "the image has something else than a directory at $made"
    fi
  done
}
