# shellcheck shell=sh
# Which disk: the one that the order's rule describes. None, or more than one, is a failure with a reason: writing to the
# wrong disk cannot be taken back.

stage_disk() {
  min_bytes=$(order disk_min_bytes "$NUMBER")
  max_bytes=$(optional disk_max_bytes "$NUMBER")
  want_serial=$(optional disk_serial '[!-~]([ -~]{0,98}[!-~])?')
  want_type=$(optional disk_type 'nvme|ssd|hdd')

  # Controllers find their disks in their own time; once udev has settled, what is there is all there is.
  wait_until 30 1 any_matching_disk || fail boot.disk-rule "no disk matches $(rule); found: $(disk_list)"
  [ "$(matching_disks | wc -l)" = 1 ] || fail boot.disk-rule "more than one disk matches $(rule); found: $(disk_list)"

  disk=$(matching_disks)
  echo "/dev/$disk" >"$RUN/disk"
  {
    echo "disk=$disk"
    echo "disk_bytes=$(disk_bytes "$disk")"
    echo "disk_serial=$(disk_serial "$disk")"
  } >"$RUN/facts"
}

rule() {
  echo "size $min_bytes..$max_bytes, serial ${want_serial:-any}, type ${want_type:-any}"
}

any_matching_disk() {
  if command -v udevadm >/dev/null; then udevadm settle --timeout 30; fi
  [ -n "$(matching_disks)" ]
}

matching_disks() {
  for disk in $(disks); do
    bytes=$(disk_bytes "$disk")
    [ "$bytes" -ge "$min_bytes" ] || continue
    [ "$bytes" -le "${max_bytes:-$bytes}" ] || continue
    [ -z "$want_serial" ] || [ "$(disk_serial "$disk")" = "$want_serial" ] || continue
    [ -z "$want_type" ] || [ "$(disk_type "$disk")" = "$want_type" ] || continue
    echo "$disk"
  done
}

disk_list() {
  for disk in $(disks); do
    printf '%s (%s bytes, %s, serial %s); ' "$disk" "$(disk_bytes "$disk")" "$(disk_type "$disk")" "$(disk_serial "$disk")"
  done
}

# Disks a system can live on: hardware, not removable, not read-only, with a size. NVMe over several paths shows each path
# as a hidden disk of its own.
disks() {
  for path in "$SYS"/block/*; do
    case ${path##*/} in
      *[!0-9A-Za-z]* | loop* | ram* | zram* | md* | sr* | fd* | nbd*) continue ;;
    esac
    [ -e "$path/device" ] || continue
    [ "$(attribute "$path/removable")" = 0 ] || continue
    [ "$(attribute "$path/ro")" = 0 ] || continue
    [ "$(attribute "$path/hidden")" != 1 ] || continue
    [ "$(attribute "$path/size")" -gt 0 ] || continue
    echo "${path##*/}"
  done
}

# The kernel counts in sectors of 512 bytes, whatever the disk does.
disk_bytes() {
  echo $(($(attribute "$SYS/block/$1/size") * 512))
}

disk_type() {
  case $1 in
    nvme*) echo nvme ;;
    *) [ "$(attribute "$SYS/block/$1/queue/rotational")" = 1 ] && echo hdd || echo ssd ;;
  esac
}

# virtio keeps it at the disk, NVMe at the device, SCSI and SATA in VPD page 0x80 after four bytes of header (SPC-4 7.8.15).
disk_serial() {
  path=$SYS/block/$1
  if [ -e "$path/serial" ]; then
    attribute "$path/serial"
  elif [ -e "$path/device/serial" ]; then
    attribute "$path/device/serial"
  elif [ -e "$path/device/vpd_pg80" ]; then
    tail -c +5 "$path/device/vpd_pg80" | plain
  fi
}

disk_model() {
  attribute "$SYS/block/$1/device/model"
}

# An earlier order may have failed with the new system still mounted, or been killed with writers at work.
let_go_of_disks() {
  wait_until 300 0.1 end_writers || fail boot.stage-failed "a writer of an earlier stage can't be ended"
  if grep -q " $NEW " "$PROC/mounts"; then umount "$NEW"; fi
}

# Whoever writes chunks has this file open, and the programs that it starts inherit that. True when there are none.
end_writers() {
  [ -e "$RUN/writing" ] || return 0
  alone=true
  for open in "$PROC"/[0-9]*/fd/9; do
    # shellcheck disable=SC3013 # dash and busybox know -ef
    [ "$open" -ef "$RUN/writing" ] || continue
    pid=${open%/fd/9}
    kill -9 "${pid##*/}" || :
    alone=false
  done
  $alone
}

# zero_range DISK FROM LENGTH, as `method` says, discard at first. A hole punched into a block device is a promise of the
# kernel: the disk itself unmaps or zeroes the range and reads as zeros from then on (NVMe DEAC, SCSI LBPRZ, virtio
# write-zeroes), or the call is refused. A plain discard promises nothing. What cannot do that gets zeros written.
zero_range() {
  if [ "$method" = discard ] && ! fallocate --punch-hole --offset "$2" --length "$3" "$1"; then method=zero; fi
  if [ "$method" = zero ]; then blkdiscard --zeroout --offset "$2" --length "$3" "$1"; fi
}

# Partition N of a disk: names that end in a digit take a `p` (nvme0n1p3).
partition() {
  case $1 in
    *[0-9]) echo "$1p$2" ;;
    *) echo "$1$2" ;;
  esac
}

attribute() {
  if [ -e "$1" ]; then plain <"$1"; fi
}

# Firmware fills these fields: printable characters stay, without the protocol's separator and without blanks around.
plain() {
  tr -cd ' -~' | tr -d '|' | sed 's/^ *//; s/ *$//' | cut -c1-100
}
