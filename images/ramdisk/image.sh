# shellcheck shell=sh
# The image on its way to the disk. An order that names a map of chunks has it written as chunks.sh does; any other is one
# stream: curl | tee (sha256) | zstd -dc | dd, nothing staged. The digest is known only when all of
# it went by, so the first MiB, which holds the boot code and the partition table, is kept back until the digest is
# right; until then the disk holds nothing that firmware could boot, whenever the power goes.

MIB=1048576
RETRY_PAUSE=${RETRY_PAUSE:-2}
CLEAR_URL='https?://[][0-9A-Za-z.:-]+/[0-9A-Za-z._~/-]*'

stage_image() {
  disk=$(cat "$RUN/disk")
  size=$(disk_bytes "${disk##*/}")
  if grep -q '^image_map_url=' "$RUN/order"; then way=chunks; else way=image; fi
  "${way}_from_order"
  [ "$raw" -le "$size" ] || fail image.invalid "the image needs $raw bytes, the disk $disk has $size"

  let_go_of_disks
  began=$(uptime_seconds)
  "write_$way"
  if command -v udevadm >/dev/null; then udevadm settle --timeout 30; fi
  {
    echo "bytes=$raw"
    echo "seconds=$(awk -v from="$began" -v to="$(uptime_seconds)" 'BEGIN { printf "%.2f", to - from }')"
  } >"$RUN/facts"
}

image_from_order() {
  url=$(order image_url "$CLEAR_URL")
  digest=$(order image_sha256 '[0-9a-f]{64}')
  bytes=$(order image_bytes "$NUMBER")
  raw=$(order image_raw_bytes "$NUMBER")
  [ "$raw" -gt "$((2 * MIB))" ] || fail image.invalid "an image of $raw bytes is none"
}

# Uses disk, size (of the disk), url, digest, bytes (of the compressed image), raw.
write_image() {
  make_unbootable
  rm -f "$RUN/failed-part" "$RUN/stream" "$RUN/head" "$RUN/surplus" "$RUN/writer"
  mkfifo "$RUN/stream"
  openssl dgst -sha256 -r <"$RUN/stream" >"$RUN/digest" &
  hashing=$!
  follow_writing &
  following=$!

  # sh knows the fate of the last part of a pipe only: each part tells its own.
  {
    download || broke download
  } | {
    tee "$RUN/stream" || broke tee
  } | {
    zstd -dc --no-progress || broke zstd
  } | {
    write_disk || broke disk
  }

  wait "$hashing" || broke digest
  kill "$following" || :
  wait "$following" || :
  judge_image || {
    make_unbootable
    return 1
  }
  dd if="$RUN/head" of="$disk" bs=1M conv=fsync,notrunc status=none
  read_partitions
}

# What is at fault: a part that breaks takes down those before it in the pipe, and starves those behind it.
judge_image() (
  if cut_off; then fail boot.stale 'the appliance ended this boot'; fi
  if broken disk; then fail boot.stage-failed "writing to $disk failed: $(one_line "$(head -n 1 "$RUN/dd")")"; fi
  if [ -s "$RUN/surplus" ]; then fail image.invalid "the image has more than the $raw bytes that were declared"; fi
  if broken download; then fail boot.stage-failed "the image did not arrive: $(one_line "$(cat "$RUN/download")")"; fi
  if broken zstd; then fail image.digest 'what arrived is not the image that was ordered: it cannot be unpacked'; fi
  if broken tee || broken digest; then fail boot.stage-failed "the digest was not computed: $(last_words)"; fi
  got=$(cut -c1-64 "$RUN/digest")
  [ "$got" = "$digest" ] || fail image.digest "the image has the SHA-256 $got, ordered was $digest"
  written=$(($(wc -c <"$RUN/head") + $(cat "$RUN/written")))
  [ "$written" = "$raw" ] || fail image.invalid "the image has $written bytes, not the $raw that were declared"
)

broke() {
  echo "$1" >>"$RUN/failed-part"
}

broken() {
  grep -qx "$1" "$RUN/failed-part" 2>/dev/null
}

# Exactly $bytes bytes, however often the connection is cut. --continue-at makes curl refuse a server that answers a
# request for the rest with the whole.
download() {
  offset=0 in_vain=0 ended=0
  while [ "$offset" -lt "$bytes" ]; do
    curl --silent --fail --globoff --connect-timeout 5 --speed-limit 1024 --speed-time 15 --continue-at "$offset" \
      --write-out '%{stderr}%{size_download} status %{http_code}, %{errormsg}\n' "$url" 2>"$RUN/download" || ended=$?
    # There is nobody to write to (23, or killed for it): that is not the network's fault, and no reason to try again.
    case $ended in 23 | 141) return ;; esac
    ended=0
    got=$(cut -d' ' -f1 "$RUN/download" | grep -Ex "$NUMBER")
    offset=$((offset + ${got:-0}))
    [ "$offset" -lt "$bytes" ] || break
    echo "download: cut at byte $offset of $bytes: $(cat "$RUN/download")" >&2
    if [ "${got:-0}" -gt 0 ]; then in_vain=0; else in_vain=$((in_vain + 1)); fi
    [ "$in_vain" -lt 8 ] || return 1
    sleep "$RETRY_PAUSE"
  done
  [ "$offset" = "$bytes" ]
}

# The first MiB to memory, the rest to the disk, at most what was declared.
write_disk() {
  # A plain file, in tests, may lie where there is no direct I/O.
  if [ -b "$disk" ]; then direct=,direct; else direct=; fi
  dd of="$RUN/head" bs=1M count=1 iflag=fullblock status=none &&
    sh -c 'echo $$ >"$RUN/writer" && exec "$@"' writer dd of="$disk" bs=1M iflag=fullblock,count_bytes \
      count=$((raw - MIB)) oflag=seek_bytes"$direct" seek="$MIB" conv=fsync,notrunc 2>"$RUN/dd" &&
    awk '/ copied/ { print $1 }' "$RUN/dd" >"$RUN/written" &&
    head -c 1 >"$RUN/surplus"
}

# Where dd is, every other second: the position of its standard output. It may not have begun, or just be done.
follow_writing() {
  while sleep 2; do
    writer=$(cat "$RUN/writer" 2>/dev/null || :)
    position=$(awk '/^pos:/ { print $2 }' "$PROC/$writer/fdinfo/1" 2>/dev/null || :)
    [ -z "$position" ] || progress image "$position"
    if cut_off; then kill "$writer" || :; fi
  done
}

# No boot code and no partition table, neither the first nor the backup at the end.
make_unbootable() {
  dd if=/dev/zero of="$disk" bs=1M count=1 conv=fsync,notrunc status=none
  dd if=/dev/zero of="$disk" bs=1M seek=$((size - MIB)) count="$MIB" iflag=count_bytes oflag=seek_bytes \
    conv=fsync,notrunc status=none
}

# The kernel refuses while somebody has the disk or a partition open, as udev does for a moment after each write, and goes
# on with the sizes it knew.
read_partitions() {
  if [ -b "$disk" ]; then wait_until 100 0.1 blockdev --rereadpt "$disk"; fi
}
