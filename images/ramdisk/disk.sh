# shellcheck shell=sh disable=SC2153,SC2154 # names that read_rule gives
# Which disk is for what: those that the order's rules describe, as scheduler/disk-plan.ts has decided it on what inspection
# saw. Too few of them, or too many, is a failure with a reason: writing to the wrong disk cannot be taken back. All have
# been found before a byte is written.

# What it finds for those who come after: $RUN/disk, and $RUN/roles with `ROLE DISK` a line.
stage_disk() {
  read_rules
  read_layout

  # Controllers find their disks in their own time; once udev has settled, what is there is all there is.
  wait_until 30 1 give_roles || :
  [ ! -s "$RUN/unfit" ] || fail boot.disk-rule "$(cat "$RUN/unfit"); found: $(disk_list)"
  read_mirror

  disk=$(disk_of root)
  echo "/dev/$disk" >"$RUN/disk"
  {
    echo "disk=$disk"
    echo "disk_bytes=$(disk_bytes "$disk")"
    echo "disk_serial=$(disk_serial "$disk")"
    grep -v '^root ' "$RUN/roles" | tr ' ' '=' || :
  } >"$RUN/facts"
}

# Of the root, then of its mirror and each data disk: ROLE MIN-BYTES MAX-BYTES TYPE SERIAL, with `any` or nothing where the order is silent.
read_rules() {
  read_rule root disk >"$RUN/rules"
  mirror=$(optional mirror_min_bytes "$NUMBER")
  if [ -n "$mirror" ]; then read_rule mirror mirror >>"$RUN/rules"; fi
  data_disks=$(optional data_disks '[1-9]') number=0
  while [ "$number" -lt "${data_disks:-0}" ]; do
    number=$((number + 1))
    read_rule "data$number" "data$number" >>"$RUN/rules"
  done
}

# read_rule ROLE PREFIX
read_rule() {
  min=$(order "$2_min_bytes" "$NUMBER")
  max=$(optional "$2_max_bytes" "$NUMBER")
  type=$(optional "$2_type" 'nvme|ssd|hdd')
  serial=$(optional "$2_serial" '[!-~]([ -~]{0,98}[!-~])?')
  echo "$1 $min ${max:-any} ${type:-any} $serial"
}

# disk_of ROLE: its name; nothing when the order does not have that role.
disk_of() {
  sed -n "s/^$1 //p" "$RUN/roles"
}

# Roles take turns, the root first, and each takes the one disk that matches and has none yet. What is wrong is in $RUN/unfit; false
# while it may be that a disk has not come yet. When the rules of root and mirror match the same two disks, the first is the root.
give_roles() {
  if command -v udevadm >/dev/null; then udevadm settle --timeout 30; fi
  all=$(disk_facts)
  : >"$RUN/roles"
  : >"$RUN/unfit"
  enough=true
  while read -r role min max type serial; do
    found=$(matching_disks)
    # shellcheck disable=SC2086 # words
    set -- $found
    if [ "$role $#" = 'root 2' ] && [ "$found" = "$(mirror_disks)" ]; then set -- "$1"; fi
    case $# in
      0) enough=false ;;
      1) echo "$role $1" >>"$RUN/roles" ;;
    esac
    [ "$#" = 1 ] ||
      echo "for $role must match 1 disk, and $# do: size $min..$max, type $type, serial ${serial:-any}" >>"$RUN/unfit"
  done <"$RUN/rules"
  $enough
}

# What a rule asks about, a line a disk: NAME BYTES TYPE SERIAL
disk_facts() {
  for name in $(disks); do
    echo "$name $(disk_bytes "$name") $(disk_type "$name") $(disk_serial "$name")"
  done
}

matching_disks() {
  echo "$all" | while read -r name bytes of_type of_serial; do
    [ -n "$name" ] || continue
    [ "$bytes" -ge "$min" ] || continue
    [ "$max" = any ] || [ "$bytes" -le "$max" ] || continue
    [ "$type" = any ] || [ "$of_type" = "$type" ] || continue
    [ -z "$serial" ] || [ "$of_serial" = "$serial" ] || continue
    if grep -q " $name\$" "$RUN/roles"; then continue; fi
    echo "$name"
  done
}

# Those that the mirror's rule matches.
mirror_disks() {
  sed -n 's/^mirror //p' "$RUN/rules" | if read -r min max type serial; then matching_disks; fi
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
    [ "$(figure "$path/removable")" = 0 ] || continue
    [ "$(figure "$path/ro")" = 0 ] || continue
    [ "$(figure "$path/hidden")" != 1 ] || continue
    [ "$(figure "$path/size")" -gt 0 ] || continue
    echo "${path##*/}"
  done
}

# The kernel counts in sectors of 512 bytes, whatever the disk does.
disk_bytes() {
  echo $(($(figure "$SYS/block/$1/size") * 512))
}

disk_type() {
  case $1 in
    nvme*) echo nvme ;;
    *) [ "$(figure "$SYS/block/$1/queue/rotational")" = 1 ] && echo hdd || echo ssd ;;
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

# An earlier order may have failed with the new system still mounted and its mirror running, or been killed with writers at work.
let_go_of_disks() {
  wait_until 300 0.1 end_writers || fail boot.stage-failed "a writer of an earlier stage can't be ended"
  unmount_all
  stop_mirror
}

# Whoever writes chunks has one of these files open, and the programs that it starts inherit that. True when there are none.
end_writers() {
  alone=true
  for open in "$PROC"/[0-9]*/fd/9; do
    # shellcheck disable=SC3013 # dash and busybox know -ef
    [ "$open" -ef "$RUN/writing" ] || [ "$open" -ef "$RUN/ahead/writing" ] || continue
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

# What the kernel itself counts, read without a process.
figure() {
  if [ -e "$1" ] && read -r figure <"$1"; then echo "$figure"; fi
}

attribute() {
  if [ -e "$1" ]; then plain <"$1"; fi
}

# Firmware fills these fields: printable characters stay, without the protocol's separator and without blanks around.
plain() {
  tr -cd ' -~' | tr -d '|' | sed 's/^ *//; s/ *$//' | cut -c1-100
}
