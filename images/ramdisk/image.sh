# shellcheck shell=sh disable=SC2034,SC2154 # names that other parts use, or give
# The image on its way to the disk: how chunks.sh writes it, and what it costs. Until all of it is there, the disk holds nothing
# that firmware could boot, whenever the power goes.

MIB=1048576
RETRY_PAUSE=${RETRY_PAUSE:-2}
CLEAR_URL='https?://[][0-9A-Za-z.:-]+/[0-9A-Za-z._~/-]*'

stage_image() {
  image_and_disk
  let_go_of_disks
  # By this, the next start of this stage finds what is left at work when it is killed.
  exec 9>"$RUN/writing"
  began=$(uptime_seconds)
  write_chunks
  if command -v udevadm >/dev/null; then udevadm settle --timeout 30; fi
  {
    echo "bytes=$raw"
    [ "$ahead" = 0 ] || echo "ahead=$ahead"
    echo "seconds=$(awk -v from="$began" -v to="$(uptime_seconds)" 'BEGIN { printf "%.2f", to - from }')"
  } >"$RUN/facts"
}

image_and_disk() {
  disk=$(cat "$RUN/disk")
  size=$(disk_bytes "${disk##*/}")
  chunks_from_order
  [ "$raw" -le "$size" ] || fail image.invalid "the image needs $raw bytes, the disk $disk has $size"
}

# No boot code and no partition table, neither the first nor the backup at the end. To flush one is to flush both.
make_unbootable() {
  dd if=/dev/zero of="$disk" bs=1M count=1 conv=notrunc status=none
  dd if=/dev/zero of="$disk" bs=1M seek=$((size - MIB)) count="$MIB" iflag=count_bytes oflag=seek_bytes \
    conv=fsync,notrunc status=none
}

# The kernel refuses while somebody has the disk or a partition open, as udev does for a moment after each write, and goes
# on with the sizes it knew.
read_partitions() {
  if [ -b "$disk" ]; then wait_until 100 0.1 blockdev --rereadpt "$disk"; fi
}
