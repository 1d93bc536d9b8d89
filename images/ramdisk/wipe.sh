# shellcheck shell=sh disable=SC2154 # `method`, which erase.sh sets
# Nothing of one tenant waits for the next: every disk reads as zeros afterwards, and that is looked at, not believed. Each disk gets
# a certificate of its own, also one that could not be wiped.

MIB=1048576
PROOF_SAMPLE=65536
PROOF_SAMPLES=64
PROOF_BYTES=$((2 * MIB + PROOF_SAMPLES * PROOF_SAMPLE))
WIPE_STEP=$((16 * 1024 * MIB))

stage_wipe() {
  seed=$(order wipe_seed '[0-9a-f]{32}')
  names=$(disks | tr '\n' ' ')
  [ -n "$names" ] || fail boot.stage-failed 'there is no disk to wipe'
  let_go_of_disks
  rm -rf "$RUN/ahead"
  : >"$RUN/wiped"
  for name in $names; do
    began=$(uptime_seconds | cut -d. -f1)
    if wiped "/dev/$name" "$(disk_bytes "$name")"; then
      certify "$name" passed
      echo "$name:$method" >>"$RUN/wiped"
    else
      certify "$name" failed
      fail boot.stage-failed "$name: $unproven"
    fi
  done
  {
    echo "method=$(cut -d: -f2 "$RUN/wiped" | sort -u | paste -sd,)"
    echo "disks=$(paste -sd, "$RUN/wiped")"
  } >"$RUN/facts"
}

# wiped DISK BYTES: by what the disk can do itself, then, where it does not read as zeros after that, by zeros. What was done is in
# $method; false with the reason in $unproven.
wiped() {
  method=
  : >"$RUN/sample"
  if erase_itself "$1"; then
    let_see_again "$1"
    if reads_zero "$1" "$2"; then return 0; fi
    # What a key was thrown away of reads as anything.
    say "$1 does not read as zeros after $method: going on"
  fi
  itself=$method
  zero_disk "$1" "$2" || return 1
  method=${itself:+$itself+}$method
  reads_zero "$1" "$2"
}

# zero_disk DISK BYTES
zero_disk() {
  method=discard
  from=0
  while [ "$from" -lt "$2" ]; do
    length=$(($2 - from))
    [ "$length" -le "$WIPE_STEP" ] || length=$WIPE_STEP
    zero_range "$1" "$from" "$length" || {
      unproven="it takes no zeros at byte $from"
      return 1
    }
    from=$((from + length))
    progress wipe "$from"
    if cut_off; then fail boot.stale 'the appliance ended this boot'; fi
  done
  blockdev --flushbufs "$1" || {
    unproven='what was written did not reach it'
    return 1
  }
  let_see_again "$1"
}

let_see_again() {
  blockdev --rereadpt "$1" || :
}

# reads_zero DISK BYTES: past the page cache, the first and the last MiB, and the places that follow from the order's seed, which
# nobody could have known before.
reads_zero() {
  read_back "$1" "$2" || {
    unproven='it cannot be read back'
    return 1
  }
  if [ "$(tr -d '\000' <"$RUN/sample" | head -c 1 | wc -c)" != 0 ]; then
    unproven='it still holds data after wiping'
    return 1
  fi
  if blkid --probe "$1"; then
    unproven='it still has a signature after wiping'
    return 1
  fi
}

# read_back DISK BYTES: into $RUN/sample.
read_back() {
  : >"$RUN/sample"
  sample "$1" 0 "$MIB" || return 1
  sample "$1" $(($2 - MIB)) "$MIB" || return 1
  for place in $(places $(($2 / PROOF_SAMPLE))); do
    sample "$1" $((place * PROOF_SAMPLE)) "$PROOF_SAMPLE" || return 1
  done
  [ "$(wc -c <"$RUN/sample")" = "$PROOF_BYTES" ]
}

# sample DISK FROM LENGTH
sample() {
  dd if="$1" bs="$3" skip="$2" count="$3" iflag=direct,skip_bytes,count_bytes,fullblock status=none >>"$RUN/sample"
}

# places BELOW: as many numbers as there are samples, from the seed and nothing else.
places() {
  stream "$seed" 1 | od -An -v -w4 -tu4 -N $((PROOF_SAMPLES * 4)) | awk -v below="$1" '{ print $1 % below }'
}

# certify NAME RESULT: what was done to a disk and how it reads now, for the appliance to keep.
certify() {
  {
    echo "disk=$1"
    echo "bytes=$(disk_bytes "$1")"
    echo "serial=$(disk_serial "$1")"
    echo "model=$(disk_model "$1")"
    echo "method=${method:-none}"
    echo "seconds=$(($(uptime_seconds | cut -d. -f1) - began))"
    echo "samples=$((PROOF_SAMPLES + 2))"
    echo "sampled_bytes=$(wc -c <"$RUN/sample")"
    echo "digest=$(openssl dgst -sha256 -r <"$RUN/sample" | cut -c1-64)"
    echo "result=$2"
    if [ "$2" = failed ]; then echo "reason=$unproven"; fi
  } >"$RUN/certificate"
  status=$(insist /boot/v1/wiped -H 'Content-Type: text/plain' --data-binary "@$RUN/certificate")
  [ "$status" = 204 ] || fail boot.stage-failed "the certificate of $1 was not taken: status $status $(complaint)"
}
