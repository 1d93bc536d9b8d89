# shellcheck shell=sh disable=SC2034,SC2154 # names that other parts use, or give
# While a machine waits for its order, the image that this is likely to be for goes to its disk; all but what would make the disk
# bootable. It is no stage of the boot: nobody is told of it, and nothing depends on it. An order for that image goes on where this
# is by then; one for another begins anew (begin_chunks).

# In a directory of its own, where no other stage reads or writes but through begin_chunks. Whatever runs for it is known by an open
# file from its first moment, so that end_writers finds it.
write_ahead() {
  if [ -e "$RUN/failure" ] || cut_off || ! grep -q '^image_map_url=' "$RUN/order"; then return; fi
  mkdir -p "$RUN/ahead"
  cp "$RUN/order" "$RUN/ahead/order"
  : >"$RUN/ahead/facts"
  exec 9>"$RUN/ahead/writing"
  ahead_in_background &
  exec 9>&-
}

ahead_in_background() {
  say 'ahead ...'
  if RUN=$RUN/ahead "$0" disk && RUN=$RUN/ahead "$0" ahead; then
    say 'ahead done'
    return
  fi
  [ -s "$RUN/ahead/failure" ] || echo "reason=$(RUN=$RUN/ahead last_words)" >"$RUN/ahead/failure"
  say "ahead given up  $(field reason "$RUN/ahead/failure")"
}

stage_ahead() {
  image_and_disk
  is_blank || fail boot.disk-rule "$disk is not blank: what is on it waits for an order"
  # Nobody waits for this.
  MOST_THREADS=1
  work=$RUN/chunks
  begin_chunks
  write_all_but_held
}

# Neither boot code, partition table nor the mark of a file system, RAID or volume, all of which lie at one of the two ends: a disk
# that was wiped, is new, or was written ahead before.
is_blank() {
  for from in 0 $((size - MIB)); do
    [ "$(dd if="$disk" bs="$MIB" iflag=skip_bytes skip="$from" count=1 status=none | tr -d '\000' | wc -c)" = 0 ] || return 1
  done
}
