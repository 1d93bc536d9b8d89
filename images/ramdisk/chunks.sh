# shellcheck shell=sh disable=SC2034,SC2154 # names that other parts use, or give
# The image in chunks, as images/chunk-map.ts describes them: says which are to be written where, and has `write-chunks`
# (write-chunks.c, a thread a chunk) do that, while zero ranges are zeroed beside it.
#
# That program is the one part of the ramdisk that is compiled. In shell, its work was that of curl, openssl, zstd and dd, 16
# chunks a batch, and every byte went through tmpfs and two pipes: 3.1 to 4.6 s of CPU for one GiB of a system's files, of which
# `zstd -dc | dd` took 1.9 to 2.6, where libzstd needs 0.85. With the program this stage takes 1.5 to 1.6 s, all in all, and on
# two processors a full disk is written at 640 to 950 MiB/s instead of 290 to 410.
#
# $work is what a stage that was killed leaves to the next start of it:
#   of         order, map and disk that this is about
#   map        as it was fetched, and found to make sense
#   plan       a line a chunk: RAW-OFFSET RAW-LENGTH LENGTH SHA256, and ` sample` behind those that are read back
#   held       the same of the chunks that make the disk bootable, the last of the map before the first
#   zeros      a line a range, or a step of it: RAW-OFFSET RAW-LENGTH
#   NAME-done  of these three, a line for each that is done: RAW-OFFSET RAW-LENGTH, and the raw SHA-256 of a sample
#   held-disk  the held chunks unpacked, at their offsets
#   sampled-zeros  offsets to read back that are among zeros
#   there      made when all but what is held back is on the disk, and was read back

CHUNK=4194304
# Of compressed bytes, MOST_CHUNK_BYTES in chunk-map.ts.
MOST_CHUNK=4259840
# What a thread of write-chunks holds: a chunk, packed and unpacked.
THREAD_BYTES=$((9 * 1024 * 1024))
MOST_THREADS=8
SAMPLES=8
ZEROS_STEP=$((1024 * 1024 * 1024))

chunks_from_order() {
  map_url=$(order image_map_url "$CLEAR_URL")
  map_digest=$(order image_map_sha256 '[0-9a-f]{64}')
  map_bytes=$(order image_map_bytes "$NUMBER")
  chunk_url=$(order chunk_url "$CLEAR_URL")
  raw=$(order image_raw_bytes "$NUMBER")
  read_back=$(optional image_read_back 'sample|whole')
}

# Uses disk, size (of the disk), and what the order says. Until the very end, the disk holds nothing that firmware could boot.
write_chunks() {
  work=$RUN/chunks
  begin_chunks
  trap 'make_unbootable; rm -rf "$work"' EXIT
  write_all_but_held
  make_bootable
  trap - EXIT
  rm -rf "$work"
  read_partitions
}

# On the disk, and what is held back in memory.
write_all_but_held() {
  if [ -e "$work/there" ]; then return; fi
  write_in_parallel
  flush_disk
  samples_are_there plan
  zeros_are_there
  (write_planned held "$work/held-disk")
  all_done held
  : >"$work/there"
}

# Goes on where an earlier start of this stage was killed, or where ahead.sh is with the same image, or begins. Nothing is written
# before the map makes sense. What was there already is in $ahead, in bytes.
begin_chunks() {
  if dd if=/dev/null of="$disk" oflag=direct conv=notrunc status=none; then direct=direct,; else direct=; fi
  of="$(field generation "$RUN/order") $map_digest $disk"
  ahead=0
  if [ "$(cat "$work/of" 2>/dev/null)" = "$of" ]; then return; fi
  rm -rf "$work"
  if take_ahead; then return; fi
  mkdir "$work"
  fetch_map
  make_plan
  make_unbootable
  : >"$work/held-disk"
  : >"$work/plan-done"
  : >"$work/held-done"
  : >"$work/zeros-done"
  echo "$of" >"$work/of"
}

# Once: whoever writes to the disk next makes it another. Killed half-way, what was taken is nobody's.
take_ahead() {
  left=$(cat "$RUN/ahead/chunks/of" 2>/dev/null) || left=
  if [ "${left#* }" = "${of#* }" ]; then mv "$RUN/ahead/chunks" "$work"; fi
  rm -rf "$RUN/ahead"
  [ -d "$work" ] || return 1
  ahead=$(written_bytes)
  echo "$of" >"$work/of"
}

# What the map says must also make sense: it covers the whole image, piece by piece, and nothing else, and is to the letter what
# images/chunk-map.ts writes. awk would print numbers over 2^31 as it likes; as the text they came in they stay what they are.
make_plan() {
  places=$(random_numbers "$SAMPLES" $((raw / CHUNK + 1)) | awk -v chunk="$CHUNK" '{ printf "%.0f ", $1 * chunk }')
  length=$(wc -c <"$work/map")
  awk -v raw="$raw" -v chunk="$CHUNK" -v most="$MOST_CHUNK" -v step="$ZEROS_STEP" -v places="$places" -v work="$work" \
    -v map_length="$length" '
    function refuse(why) { print "its map " why; refused = 1; exit 1 }
    function number(text) { return text ~ /^(0|[1-9][0-9]*)$/ && length(text) < 16 }
    function digest(text) { return length(text) == 64 && text !~ /[^0-9a-f]/ }
    # A line of fields that are right, with nothing between and behind them but what belongs there.
    function written(line) { read_length += length(line) + 1; return line == $0 }
    # As zstd-frames.ts makes them: blocks of 128 KiB, and a frame for each chunk.
    function zero_frame(bytes) { return 13 + 4 * int((bytes + 131071) / 131072) }
    function zero_frames(bytes, rest) {
      rest = bytes % chunk
      return (bytes - rest) / chunk * zero_frame(chunk) + (rest > 0 ? zero_frame(rest) : 0)
    }
    function planned(line, offset) { print line (offset in sample ? " sample" : "") >(work "/plan") }
    function zeros(from, to, past) {
      for (; from < to; from = past) {
        past = from + step < to ? from + step : to
        printf "%.0f %.0f\n", from, past - from >(work "/zeros")
        for (place in sample)
          if (place + 0 >= from && place + chunk <= past) print place >(work "/sampled-zeros")
      }
    }
    BEGIN {
      printf "" >(work "/plan"); printf "" >(work "/held"); printf "" >(work "/zeros"); printf "" >(work "/sampled-zeros")
      count = split(places, list, " ")
      for (i = 1; i <= count; i++) sample[list[i]]
    }
    NR == 1 {
      if ($1 " " $2 != "rackstart-chunk-map 1") refuse("is in no form that this ramdisk knows")
      if (NF != 5 || !number($3) || !digest($4) || !number($5) || !written($1 " " $2 " " $3 " " $4 " " $5))
        refuse("has no proper first line")
      if ($3 != raw) refuse("is about " $3 " bytes, not the " raw " that were ordered")
      print $4 >(work "/raw-sha256")
      whole = $5
      next
    }
    # Whatever is last is held back, so that each chunk waits for the next line.
    held != "" { planned(held, held_offset); held = "" }
    {
      if (!number($2) || !number($3) || !number($4) || !number($5)) refuse("is wrong in line " NR)
      if ($2 + 0 != end || $4 + 0 != packed_end) refuse("is wrong in line " NR)
      end += $3
      packed_end += $5
      if ($3 + 0 == 0 || end > raw + 0 || (end < raw + 0 ? end % chunk : $3 % 512)) refuse("is wrong in line " NR)
    }
    $1 == "chunk" && NF == 6 && digest($6) && $3 + 0 <= chunk && $5 + 0 > 0 && $5 + 0 <= most {
      if (!written($1 " " $2 " " $3 " " $4 " " $5 " " $6)) refuse("is wrong in line " NR)
      after_zeros = 0
      if (NR == 2) { first = $2 " " $3 " " $5 " " $6; next }
      held = $2 " " $3 " " $5 " " $6
      held_offset = $2
      next
    }
    $1 == "zeros" && NF == 5 && !after_zeros && $5 == zero_frames($3 + 0) {
      if (!written($1 " " $2 " " $3 " " $4 " " $5)) refuse("is wrong in line " NR)
      after_zeros = 1
      zeros($2 + 0, end)
      next
    }
    { refuse("is wrong in line " NR) }
    END {
      if (refused) exit 1
      if (end != raw + 0) refuse("ends at another byte than the image")
      # A seek table has 17 bytes, and 8 for each frame.
      if (whole != packed_end + 17 + 8 * int((raw + chunk - 1) / chunk)) refuse("is wrong about the whole file")
      if (read_length != map_length + 0) refuse("is no text, or has no end")
      if (held != "") print held, "sample" >(work "/held")
      if (first != "") print first, "sample" >(work "/held")
    }' "$work/map" >"$work/refusal" || fail image.invalid "the image can't be used: $(one_line "$(cat "$work/refusal")")"
}

# random_numbers COUNT BELOW
random_numbers() {
  od -An -v -w4 -tu4 -N $(($1 * 4)) /dev/urandom | awk -v below="$2" '{ print $1 % below }'
}

write_in_parallel() {
  write_zeros &
  zeroing=$!
  follow_chunks &
  following=$!
  wrong=0
  (write_planned plan "$disk") || wrong=$?
  # It ends by itself when the other has left its failure.
  wait "$zeroing" || wrong=$?
  kill "$following" || :
  wait "$following" || :
  if cut_off; then fail boot.stale 'the appliance ended this boot'; fi
  [ ! -e "$RUN/failure" ] || exit 1
  [ "$wrong" = 0 ] || fail boot.stage-failed "a writer ended: $(last_words)"
  all_done plan
  all_done zeros
}

# not_done NAME: those lines of $work/NAME that are not in $work/NAME-done.
not_done() {
  awk 'FILENAME == ARGV[1] { done[$1]; next } !($1 in done)' "$work/$1-done" "$work/$1"
}

# Whatever went wrong unseen: this is what counts.
all_done() {
  left=$(not_done "$1" | head -n 1)
  [ -z "$left" ] || fail boot.stage-failed "a writer left something out: ${left%% *}"
}

# write_planned NAME DISK: the rest of a plan.
write_planned() {
  not_done "$1" >"$work/$1-left"
  ended=0
  write-chunks "$2" "$chunk_url" "$(thread_count)" "$RETRY_PAUSE" "$RUN/failure" "$RUN/cut-off" \
    <"$work/$1-left" >>"$work/$1-done" 2>"$work/said" || ended=$?
  cat "$work/said" >&2
  said=$(tail -n 1 "$work/said")
  case $ended in
    0) ;;
    3) fail image.altered "$said" ;;
    4) fail image.invalid "$said" ;;
    5) if cut_off; then fail boot.stale 'the appliance ended this boot'; else exit 1; fi ;;
    6) fail image.unreachable "$said" ;;
    # What is held back is written into memory.
    7) if [ "$2" = "$disk" ]; then fail disk.failed "$said"; else fail boot.stage-failed "$said"; fi ;;
    1) fail boot.stage-failed "$said" ;;
    *) fail boot.stage-failed "write-chunks ended with status $ended: $said" ;;
  esac
}

# While one waits for the network or the disk, another unpacks: 2 processors wrote 1 GiB in 1.27 s with two threads, 0.98 with
# three, 0.93 with four, 0.85 with six or eight. They may have a quarter of the free memory.
thread_count() {
  wanted=$(($(grep -c '^processor' "$PROC/cpuinfo") * 3))
  room=$(awk -v thread="$THREAD_BYTES" '/^MemAvailable:/ { printf "%d", $2 * 1024 / 4 / thread }' "$PROC/meminfo")
  for most in "$MOST_THREADS" "$room"; do
    [ "$wanted" -le "$most" ] || wanted=$most
  done
  [ "$wanted" -gt 0 ] || wanted=1
  echo "$wanted"
}

# How far all of them are, every other second.
follow_chunks() {
  while sleep 2; do
    progress image "$(written_bytes)"
  done
}

written_bytes() {
  awk '{ bytes += $2 } END { printf "%.0f", bytes }' "$work/plan-done" "$work/zeros-done"
}

write_zeros() {
  method=discard
  not_done zeros >"$work/zeros-left"
  while read -r from length; do
    if [ -e "$RUN/failure" ] || cut_off; then return; fi
    zero_range "$disk" "$from" "$length" || fail disk.failed "zeroing $disk failed: $(last_words)"
    echo "$from $length" >>"$work/zeros-done"
  done <"$work/zeros-left"
}

flush_disk() {
  dd if=/dev/null of="$disk" conv=fsync,notrunc status=none
}

# samples_are_there NAME: what the disk gives back, past the page cache, at places that it could not know. One openssl looks at all of
# them: to start it takes as long as to hash a sample.
samples_are_there() {
  mkdir -p "$work/read"
  awk 'NF == 3' "$work/$1-done" >"$work/sampled"
  while read -r offset length _digest; do
    read_disk "$offset" "$length" >"$work/read/$offset" || not_given_back "$offset"
  done <"$work/sampled"
  [ ! -s "$work/sampled" ] || openssl dgst -sha256 -r "$work"/read/* >"$work/digests"
  while read -r offset _length digest; do
    grep -Fqx "$digest *$work/read/$offset" "$work/digests" || not_given_back "$offset"
  done <"$work/sampled"
  rm -rf "$work/read"
}

# not_given_back FROM
not_given_back() {
  fail disk.failed "$disk does not give back what was written to it at byte $1"
}

zeros_are_there() {
  while read -r offset; do
    [ "$(read_disk "$offset" "$CHUNK" | tr -d '\000' | wc -c)" = 0 ] ||
      fail disk.failed "$disk does not give back zeros at byte $offset"
  done <"$work/sampled-zeros"
}

# read_disk FROM LENGTH
read_disk() {
  dd if="$disk" bs="$CHUNK" iflag="$direct"fullblock,skip_bytes,count_bytes skip="$1" count="$2" status=none
}

# read_held FROM LENGTH
read_held() {
  dd if="$work/held-disk" bs="$CHUNK" iflag=fullblock,skip_bytes,count_bytes skip="$1" count="$2" status=none
}

# Partition table and boot code come when everything else is on the disk.
make_bootable() {
  if [ "$read_back" = whole ]; then whole_is_there; fi
  while read -r offset length _rest; do
    read_held "$offset" "$length" | dd of="$disk" bs="$CHUNK" iflag=fullblock oflag="$direct"seek_bytes seek="$offset" \
      conv=fsync,notrunc status=none || fail disk.failed "writing to $disk failed: $(last_words)"
  done <"$work/held"
  samples_are_there held
}

# With what is held back in its place.
whole_is_there() {
  begin=0 end=$raw
  while read -r offset length _rest; do
    if [ "$offset" = 0 ]; then begin=$length; else end=$offset; fi
  done <"$work/held"
  got=$(
    {
      read_held 0 "$begin"
      read_disk "$begin" $((end - begin))
      read_held "$end" $((raw - end))
    } | openssl dgst -sha256 -r
  )
  [ "${got%% *}" = "$(cat "$work/raw-sha256")" ] || fail disk.failed "$disk does not give back what was written to it"
}
