# shellcheck shell=sh
# Nothing of one tenant waits for the next: every disk reads as zeros afterwards, and that is looked at, not believed.

MIB=1048576
SAMPLE=65536
WIPE_STEP=$((16 * 1024 * MIB))

stage_wipe() {
  names=$(disks | tr '\n' ' ')
  [ -n "$names" ] || fail boot.stage-failed 'there is no disk to wipe'
  let_go_of_disks
  : >"$RUN/wiped"
  for name in $names; do
    wipe_disk "/dev/$name" "$(disk_bytes "$name")"
    prove_zero "/dev/$name" "$(disk_bytes "$name")"
    echo "$name:$method" >>"$RUN/wiped"
  done
  {
    echo "method=$(cut -d: -f2 "$RUN/wiped" | sort -u | paste -sd,)"
    echo "disks=$(paste -sd, "$RUN/wiped")"
  } >"$RUN/facts"
}

wipe_disk() {
  method=discard
  from=0
  while [ "$from" -lt "$2" ]; do
    length=$(($2 - from))
    [ "$length" -le "$WIPE_STEP" ] || length=$WIPE_STEP
    zero_range "$1" "$from" "$length"
    from=$((from + length))
    progress wipe "$from"
    if cut_off; then fail boot.stale 'the appliance ended this boot'; fi
  done
  blockdev --flushbufs "$1"
  blockdev --rereadpt "$1" || :
}

# Read back past the page cache: the first and the last MiB, and 64 places no one could have known.
prove_zero() {
  : >"$RUN/sample"
  sample "$1" 0 "$MIB"
  sample "$1" $(($2 - MIB)) "$MIB"
  for place in $(random_numbers 64 $(($2 / SAMPLE))); do sample "$1" $((place * SAMPLE)) "$SAMPLE"; done

  [ "$(wc -c <"$RUN/sample")" = $((2 * MIB + 64 * SAMPLE)) ] || fail boot.stage-failed "$1 cannot be read back"
  [ "$(tr -d '\000' <"$RUN/sample" | head -c 1 | wc -c)" = 0 ] || fail boot.stage-failed "$1 still holds data after wiping"
  if blkid --probe "$1"; then fail boot.stage-failed "$1 still has a signature after wiping"; fi
}

# sample DISK FROM LENGTH
sample() {
  dd if="$1" bs="$3" skip="$2" count="$3" iflag=direct,skip_bytes,count_bytes,fullblock status=none >>"$RUN/sample" ||
    fail boot.stage-failed "$1 cannot be read back"
}

# random_numbers COUNT BELOW
random_numbers() {
  od -An -v -w4 -tu4 -N $(($1 * 4)) /dev/urandom | awk -v below="$2" '{ print $1 % below }'
}
