# shellcheck shell=sh disable=SC2034,SC2154 # names that other parts use, or give
# The image in chunks, as images/chunk-map.ts describes them, several on their way at once. Workers take batches of them by
# turns: each fetches its batch into memory, holds every chunk against its digest, and then writes it, past the page cache, at its
# place. So a worker waits for the network while another unpacks and a third waits for the disk.
#
# The batch is there for the processes, four of which serve all of it: curl, openssl, and where all lie side by side, zstd twice
# and dd. To start curl takes 10 ms of CPU, openssl 3, the others 1, and ten times that on an emulated one; to unpack a chunk 4.
#
# $work is what a stage that was killed leaves to the next start of it:
#   of        order, map and disk that this is about
#   plan      a line a batch, of items RAW-OFFSET/SHA256
#   held      the items that make the disk bootable, the last of the map before the first: RAW-OFFSET/SHA256 RAW-LENGTH
#   zeros     a line a range: RAW-OFFSET RAW-LENGTH
#   done      a line a batch or a step of a range that is on the disk: RAW-OFFSET RAW-LENGTH
#   taken/    a file for each of these, named by its offset, so that two workers never take one
#   chunk/    chunks on their way, named by their offset; empty when they are on the disk
#   sample    offsets to read back: their chunks stay until then, and are named in `sampled`; places of zeros in `sampled-zeros`

CHUNK=4194304
# Of compressed bytes, MOST_CHUNK_BYTES in chunk-map.ts; also a multiple of 512, the unit of `ulimit -f`.
MOST_CHUNK=4259840
BATCH=16
MOST_WORKERS=8
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
  work=$RUN/chunks worker=0
  begin_chunks
  trap 'make_unbootable; rm -rf "$work"' EXIT
  # By this, `end_writers` finds what this stage leaves at work when it is killed.
  exec 9>"$RUN/writing"
  write_in_parallel
  flush_disk
  samples_are_there
  make_bootable
  exec 9>&-
  trap - EXIT
  rm -rf "$work"
  read_partitions
}

# Goes on where an earlier start of this stage was killed, or begins. Nothing is written before the map makes sense.
begin_chunks() {
  if dd if=/dev/null of="$disk" oflag=direct conv=notrunc status=none; then direct=direct,; else direct=; fi
  of="$(field generation "$RUN/order") $map_digest $disk"
  if [ "$(cat "$work/of" 2>/dev/null)" != "$of" ]; then
    rm -rf "$work"
    mkdir -p "$work/chunk"
    : >"$work/done"
    : >"$work/sampled"
    : >"$work/sampled-zeros"
    fetch_map
    make_plan
    random_numbers "$SAMPLES" $((raw / CHUNK + 1)) | awk -v chunk="$CHUNK" '{ printf "%.0f\n", $1 * chunk }' >"$work/sample"
    make_unbootable
    echo "$of" >"$work/of"
  fi
  rm -rf "$work/taken"
  mkdir "$work/taken"
  while read -r offset _length; do : >"$work/taken/$offset"; done <"$work/done"
}

# What the map says must also make sense: it covers the whole image, piece by piece, and nothing else. awk would print numbers
# over 2^31 as it likes; as the text they came in they stay what they are.
make_plan() {
  awk -v raw="$raw" -v chunk="$CHUNK" -v most="$MOST_CHUNK" -v batch="$BATCH" -v work="$work" '
    function refuse(why) { print "its map " why; refused = 1; exit 1 }
    function number(text) { return text ~ /^(0|[1-9][0-9]*)$/ && length(text) < 16 }
    function digest(text) { return length(text) == 64 && text !~ /[^0-9a-f]/ }
    function plan(item) { printf "%s%s", item, ++items % batch ? " " : "\n" >(work "/plan") }
    BEGIN {
      printf "" >(work "/plan"); printf "" >(work "/held"); printf "" >(work "/zeros")
    }
    NR == 1 {
      if ($1 " " $2 != "rackstart-chunk-map 1") refuse("is in no form that this ramdisk knows")
      if (NF != 5 || !number($3) || !digest($4) || !number($5)) refuse("has no proper first line")
      if ($3 != raw) refuse("is about " $3 " bytes, not the " raw " that were ordered")
      print $4 >(work "/raw-sha256")
      next
    }
    # Whatever is last is held back, so that each chunk waits for the next line.
    held != "" { plan(held); held = "" }
    {
      if (!number($2) || !number($3) || !number($4) || !number($5) || $2 + 0 != end) refuse("is wrong in line " NR)
      end += $3
      if ($3 + 0 == 0 || end > raw + 0 || (end < raw + 0 ? end % chunk : $3 % 512)) refuse("is wrong in line " NR)
    }
    $1 == "chunk" && NF == 6 && digest($6) && $3 + 0 <= chunk && $5 + 0 > 0 && $5 + 0 <= most {
      if (NR == 2) { first = $2 "/" $6 " " $3; next }
      held = $2 "/" $6
      held_length = $3
      next
    }
    $1 == "zeros" && NF == 5 { print $2, $3 >(work "/zeros"); next }
    { refuse("is wrong in line " NR) }
    END {
      if (refused) exit 1
      if (end != raw + 0) refuse("ends at another byte than the image")
      if (items % batch) print "" >(work "/plan")
      if (held != "") print held, held_length >(work "/held")
      if (first != "") print first >(work "/held")
    }' "$work/map" >"$work/refusal" || fail image.invalid "the image can't be used: $(one_line "$(cat "$work/refusal")")"
}

write_in_parallel() {
  sample=$(tr '\n' ' ' <"$work/sample")
  write_zeros &
  writers=$!
  workers=$(worker_count)
  while [ "$worker" -lt "$workers" ]; do
    worker=$((worker + 1))
    write_batches &
    writers="$writers $!"
  done
  worker=0
  follow_chunks &
  following=$!

  died=
  for writer in $writers; do wait "$writer" || died=$writer; done
  kill "$following" || :
  wait "$following" || :
  if cut_off; then fail boot.stale 'the appliance ended this boot'; fi
  [ ! -e "$RUN/failure" ] || exit 1
  [ -z "$died" ] || fail boot.stage-failed "a writer ended: $(last_words)"
}

# One more than there are processors, as long as all batches fit into a quarter of the free memory: the rest is for the
# programs, 20 MiB a worker, and whoever else needs some.
worker_count() {
  wanted=$(($(grep -c '^processor' "$PROC/cpuinfo") + 1))
  room=$(awk -v batch=$((BATCH * MOST_CHUNK)) '/^MemAvailable:/ { printf "%d", $2 * 1024 / 4 / batch }' "$PROC/meminfo")
  for most in "$MOST_WORKERS" "$room"; do
    [ "$wanted" -le "$most" ] || wanted=$most
  done
  [ "$wanted" -gt 0 ] || wanted=1
  echo "$wanted"
}

stopped() {
  [ -e "$RUN/failure" ] || cut_off
}

# take OFFSET: true for the one who asks first. Looking costs no process.
take() {
  if [ -e "$work/taken/$1" ]; then return 1; fi
  set -C
  if { true >"$work/taken/$1"; } 2>/dev/null; then first=true; else first=false; fi
  set +C
  $first
}

# How far all of them are, every other second.
follow_chunks() {
  while sleep 2; do
    progress image "$(awk '{ bytes += $2 } END { printf "%.0f", bytes }' "$work/done")"
  done
}

write_zeros() {
  method=discard
  while read -r from length; do
    end=$((from + length))
    while [ "$from" -lt "$end" ]; do
      if stopped; then return; fi
      step=$((end - from))
      [ "$step" -le "$ZEROS_STEP" ] || step=$ZEROS_STEP
      if take "$from"; then
        zero_range "$disk" "$from" "$step" || fail boot.stage-failed "zeroing $disk failed: $(last_words)"
        for offset in $sample; do
          if [ "$offset" -ge "$from" ] && [ $((offset + CHUNK)) -le $((from + step)) ]; then
            echo "$offset" >>"$work/sampled-zeros"
          fi
        done
        echo "$from $step" >>"$work/done"
      fi
      from=$((from + step))
    done
  done <"$work/zeros"
}

write_batches() {
  cd "$work/chunk" || exit
  while read -r items; do
    if stopped; then return; fi
    take "${items%%/*}" || continue
    # shellcheck disable=SC2086 # words
    {
      fetch_items $items
      write_items "$CHUNK" $items
    }
  done <"$work/plan"
}

# write_items RAW-LENGTH ITEM...: chunks that are here and verified, and all have this length.
write_items() {
  length=$1
  shift
  check_lengths "$length" "$@"
  run='' from=0 end=0
  for item; do
    offset=${item%/*}
    if [ "$offset" -ne "$end" ] && [ -n "$run" ]; then
      write_run "$from" $((end - from)) "$run"
      run=''
    fi
    [ -n "$run" ] || from=$offset
    run="$run $offset"
    end=$((offset + length))
  done
  write_run "$from" $((end - from)) "$run"
  for item; do
    offset=${item%/*}
    case " $sample " in
      *" $offset "*) echo "$offset $length" >>"$work/sampled" ;;
      *) : >"$offset" ;;
    esac
  done
  echo "${1%/*} $(($# * length))" >>"$work/done"
}

# The XXH64 in a frame says nothing that its SHA-256 has not said.
unpack() {
  zstd -dcq --no-check --memory=8MB -- "$@"
}

# check_lengths RAW-LENGTH ITEM...: each frame declares this length, and zstd gives no more than what is declared. So no
# chunk ends up at another's place.
check_lengths() {
  length=$1 right=0
  shift
  files=''
  for item; do files="$files ${item%/*}"; done
  # shellcheck disable=SC2086 # words
  zstd -lv -- $files >"$work/lengths-$worker" 2>/dev/null || :
  while read -r what; do
    case $what in
      "Decompressed Size: "*"($length B)") right=$((right + 1)) ;;
    esac
  done <"$work/lengths-$worker"
  [ "$right" = "$#" ] || fail image.invalid "a chunk of the image has another length than its map says: one of $*"
}

# write_run FROM LENGTH FILES: chunks side by side.
write_run() {
  # shellcheck disable=SC2086 # words
  unpack $3 | dd of="$disk" bs="$CHUNK" iflag=fullblock,count_bytes count="$2" oflag="$direct"seek_bytes seek="$1" \
    conv=notrunc 2>"$work/dd-$worker" || fail boot.stage-failed "writing to $disk failed: $(one_line "$(head -n 1 "$work/dd-$worker")")"
  written=0
  while read -r count unit _rest; do
    case $unit in byte | bytes) written=$count ;; esac
  done <"$work/dd-$worker"
  [ "$written" = "$2" ] || fail image.invalid "the image's chunk at byte $1 can't be unpacked: $(last_words)"
}

flush_disk() {
  dd if=/dev/null of="$disk" conv=fsync,notrunc status=none
}

# What the disk gives back, past the page cache, at places that it could not know. All at once, for the processes' sake.
samples_are_there() (
  cd "$work/chunk" || exit
  given=$(while read -r offset length; do read_disk "$offset" "$length"; done <"$work/sampled" | openssl dgst -sha256 -r)
  wanted=$(while read -r offset _length; do echo "$offset"; done <"$work/sampled" | xargs -r zstd -dcq -- | openssl dgst -sha256 -r)
  [ "$given" = "$wanted" ] || fail boot.stage-failed "$disk does not give back what was written to it: $(tr '\n' ' ' <"$work/sampled")"
  while read -r offset; do read_disk "$offset" "$CHUNK"; done <"$work/sampled-zeros" | tr -d '\000' >"$work/no-zeros"
  [ ! -s "$work/no-zeros" ] || fail boot.stage-failed "$disk does not give back zeros: $(tr '\n' ' ' <"$work/sampled-zeros")"
  : >"$work/sampled"
  : >"$work/sampled-zeros"
)

# read_disk FROM LENGTH
read_disk() {
  dd if="$disk" bs="$CHUNK" iflag="$direct"fullblock,skip_bytes,count_bytes skip="$1" count="$2" status=none
}

# Partition table and boot code come when everything else is on the disk.
make_bootable() (
  worker=0 items='' sample=''
  cd "$work/chunk" || exit
  while read -r item _length; do items="$items $item" sample="$sample ${item%/*}"; done <"$work/held"
  # shellcheck disable=SC2086 # words
  fetch_items $items
  if [ "$read_back" = whole ]; then whole_is_there; fi
  while read -r item length; do
    write_items "$length" "$item"
    flush_disk
  done <"$work/held"
  samples_are_there
)

whole_is_there() {
  begin=0 end=$raw
  while read -r item length; do
    case $item in
      0/*) begin=$length ;;
      *) end=${item%/*} ;;
    esac
  done <"$work/held"
  got=$(
    {
      if [ "$begin" -gt 0 ]; then unpack 0; fi
      read_disk "$begin" $((end - begin))
      if [ "$end" -lt "$raw" ]; then unpack "$end"; fi
    } | openssl dgst -sha256 -r | cut -c1-64
  )
  [ "$got" = "$(cat "$work/raw-sha256")" ] || fail boot.stage-failed "$disk does not give back what was written to it"
}
