# shellcheck shell=sh
# Whether this machine works: a sample of its memory, every disk, its links, its clock. What is found is told and not judged: what
# was there before, and how much of a fault a machine bears, the appliance knows.

stage_check() {
  mib=$(order check_memory_mib "$NUMBER")
  bring_links_up
  listen_to_switches
  health "$(sample_kib "$mib")" >"$RUN/health"
  wait_for_switches "$(optional switch_wait_s "$NUMBER")"
  heard_frames >>"$RUN/health"
  stop_listening
  status=$(insist /boot/v1/check -H 'Content-Type: text/plain' --data-binary "@$RUN/health")
  [ "$status" = 204 ] || fail boot.stage-failed "the check was not taken: status $status $(complaint)"
  grep -E '^(memory_tested_kib|memory_wrong_bytes|clock_offset)=' "$RUN/health" >"$RUN/facts"
}

# health KIB-OF-MEMORY
health() {
  echo "cores=$(cores)"
  echo "memory_kib=$(memory_kib)"
  memory_health "$1"
  echo "clock_offset=$(clock_offset)"
  for disk in $(disks); do
    echo "disk=$disk|$(disk_bytes "$disk")|$(disk_serial "$disk")|$(unreadable_place "$disk")|$(smart_health "$disk")"
    progress check 0 >&2
  done
  for nic in $(nics); do
    echo "nic=$nic|$(attribute "$SYS/class/net/$nic/address")|$(link "$nic")"
  done
}

# A 64th of the memory at most: a small machine has little to spare, and on an emulated one each MiB takes its time.
sample_kib() {
  most=$(($(memory_kib) / 64))
  wanted=$(($1 * 1024))
  echo $((wanted < most ? wanted : most))
}

# memory_health KIB: a stream that repeats nowhere, so that an address line that is stuck shows too, is written to pages of tmpfs and held
# against the same stream made again; then another one, so that most bits have been both.
memory_health() {
  wrong=0
  for key in 52616368737461727400000000000001 52616368737461727400000000000002; do
    stream "$key" "$1" >"$RUN/memory" || :
    compared=0
    stream "$key" "$1" | cmp -l "$RUN/memory" - >"$RUN/wrong" || compared=$?
    different=$(wc -l <"$RUN/wrong")
    # One of the two streams may have ended early: that is no fault of the memory, and no proof of its health.
    if [ "$compared" != 0 ] && [ "$different" = 0 ] || [ "$(wc -c <"$RUN/memory")" != $(($1 * 1024)) ]; then
      fail boot.stage-failed "the sample of the memory, $1 KiB, could not be made"
    fi
    wrong=$((wrong + different))
  done
  rm "$RUN/memory" "$RUN/wrong"
  echo "memory_tested_kib=$1"
  echo "memory_wrong_bytes=$wrong"
  echo "memory_corrected=$(counted_errors ce_count)"
  echo "memory_uncorrected=$(counted_errors ue_count)"
}

# stream KEY KIB
stream() {
  head -c "${2}k" /dev/zero | openssl enc -aes-128-ctr -K "$1" -iv 00000000000000000000000000000000
}

# counted_errors COUNTER: of all memory controllers that count them (EDAC); nothing where none does.
counted_errors() {
  sum=
  for controller in "$SYS"/devices/system/edac/mc/mc[0-9]*; do
    count=$(figure "$controller/$1" | grep -Ex '[0-9]{1,15}') || continue
    sum=$((${sum:-0} + count))
  done
  echo "$sum"
}

# Seconds by which the clock here is ahead of the appliance's, which is known by its certificate; nothing when it does not say.
clock_offset() {
  theirs=$(curl --silent --head --cacert "$ETC/ca.pem" --connect-timeout 5 --max-time 10 --output /dev/null \
    --write-out '%header{date}' "$(cat "$RUN/url")/" | epoch_of)
  if [ -n "$theirs" ]; then echo $(($(date +%s) - theirs)); fi
}

# A date as HTTP has it (RFC 9110 5.6.7), in seconds since the epoch; the days by H. Hinnant's "days from civil".
epoch_of() {
  awk '/^[A-Z][a-z][a-z], [0-9][0-9] [A-Z][a-z][a-z] [0-9][0-9][0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9] GMT/ {
    month = (index("JanFebMarAprMayJunJulAugSepOctNovDec", $3) + 2) / 3
    year = $4 - (month <= 2)
    era = int(year / 400)
    of_era = year - era * 400
    of_year = int((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + $2 - 1
    days = era * 146097 + of_era * 365 + int(of_era / 4) - int(of_era / 100) + of_year - 719468
    split($5, time, ":")
    printf "%.0f\n", days * 86400 + time[1] * 3600 + time[2] * 60 + time[3]
  }'
}

# `ok`, or the first of its sampled places, in bytes, that cannot be read past the page cache: the first, the last and the middle MiB, and
# 29 between them.
unreadable_place() {
  last=$(($(disk_bytes "$1") - MIB))
  for step in 0 32 16 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31; do
    place=$((last * step / 32 / MIB * MIB))
    if [ "$step" = 32 ]; then place=$last; fi
    if ! readable "/dev/$1" "$place"; then
      echo "$place"
      return
    fi
  done
  echo ok
}

# readable DISK FROM
readable() {
  dd if="$1" of=/dev/null bs="$MIB" skip="$2" count="$MIB" iflag=direct,skip_bytes,count_bytes,fullblock status=none
}

# What a disk says of itself. Bits of smartctl's exit status: 0 to 2, it could not be asked; 3, it is failing.
smart_health() {
  asked=0
  timeout 30 smartctl --health "/dev/$1" >&2 || asked=$?
  if [ $((asked & 8)) != 0 ] && [ "$asked" -lt 124 ]; then
    echo failing
  elif [ $((asked & 7)) != 0 ] || [ "$asked" -ge 124 ]; then
    echo unknown
  else
    echo ok
  fi
}
