# shellcheck shell=sh disable=SC2034,SC2154 # names that other parts use, or give
# The root grown to the end of its disk: partition table, partition, file system. It stays mounted for what follows. Other disks
# get their file systems here, too.

stage_grow() {
  disk=$(cat "$RUN/disk")
  number=$(order root_partition '[1-9][0-9]{0,2}')
  fs=$(order root_fs 'ext4|xfs|btrfs')
  arguments=$(order kernel_args "$KERNEL_ARGUMENTS")
  root=$(partition "$disk" "$number")
  mirror=$(disk_of mirror)

  grow_partition
  if [ -n "$mirror" ]; then make_mirror; fi
  mount_root
  : >"$RUN/fstab"
  if [ -n "$mirror" ]; then
    require_mirrorable
    mirror_fstab
  fi
  grow_file_system
  if [ -n "$mirror" ]; then join_mirror; fi
  make_data_disks
  make_swap
  echo "$root" >"$RUN/root"
  echo "root_bytes=$(blockdev --getsize64 "$root")" >"$RUN/facts"
}

grow_partition() {
  sfdisk --dump "$disk" >"$RUN/table" || fail image.invalid "the image has no partition table: $(last_words)"
  partitions "$RUN/table" | cut -d' ' -f1 | grep -Fqx "$root" || fail image.invalid "the image has no partition $number"
  behind=$(partitions_behind "$root" "$RUN/table")
  [ -z "$behind" ] || fail image.invalid "the root, partition $number, can't grow: behind it lies $(one_line "$behind")"

  size=+
  if [ -n "$mirror" ]; then size=$(mirrored_size); fi

  # The backup of a GPT lies where the image ended; it goes to the end of the disk with this. Before it tells the kernel, sfdisk would wait
  # a quarter of a second.
  echo ", $size" | sfdisk --quiet --no-reread --no-tell-kernel -N "$number" "$disk"
  read_partitions || fail boot.stage-failed "the kernel does not read the partition table of $disk: $(last_words)"
  if command -v udevadm >/dev/null; then udevadm settle --timeout 30; fi
  wait_until 100 0.1 test -b "$root" || fail image.invalid "the kernel finds no partition $number in the image"
}

# partitions TABLE: `PATH START SIZE` of each, in sectors, from what `sfdisk --dump` wrote.
partitions() {
  sed -n 's/^\(\/[^ ]*\) : start= *\([0-9]*\), size= *\([0-9]*\),.*/\1 \2 \3/p' "$1"
}

partitions_behind() {
  partitions "$2" | awk -v root="$1" '
    { start[$1] = $2 + 0 }
    END { for (path in start) if (start[path] > start[root]) print path }' | sort
}

# As the kernel of the image will: a btrfs by the subvolume that its arguments name, else by its default one.
mount_root() {
  options=nosuid,nodev
  if [ "$fs" = btrfs ]; then options=$options$(subvolume "$arguments"); fi
  mkdir -p "$NEW"
  mount -t "$fs" -o "$options" "$root" "$NEW" ||
    fail image.invalid "partition $number of the image can't be mounted as $fs: $(last_words)"
}

subvolume() {
  echo "$1" | tr ' ' '\n' | sed -n 's/^rootflags=//p' | tr ',' '\n' | grep -E '^subvol(id)?=' | tail -n 1 | sed 's/^/,/'
}

grow_file_system() {
  case $fs in
    ext4) resize2fs "$root" ;;
    xfs) xfs_growfs "$NEW" ;;
    btrfs) btrfs filesystem resize max "$NEW" ;;
  esac
}
