# shellcheck shell=sh
# From an image on a disk to this one server: its files and its identity.

stage_inject() {
  status=$(insist /boot/v1/files --max-time 120)
  [ "$status" = 200 ] || fail boot.stage-failed "the server's files did not come: status $status $(complaint)"
  # Directories that the image does not have are made as everybody expects them.
  umask 022
  require_directories "$RUN/answer"
  make_directory /etc/ssh
  tar -x -C "$NEW" --no-same-owner --preserve-permissions -f "$RUN/answer"
  write_fstab

  machine_id=$(tr -d '\n-' <"$PROC/sys/kernel/random/uuid")
  rm -f "$NEW/etc/machine-id"
  echo "$machine_id" >"$NEW/etc/machine-id"
  chmod 444 "$NEW/etc/machine-id"

  # Keys that an image may bring are known to everybody who has the image.
  rm -f "$NEW"/etc/ssh/ssh_host_*
  ssh-keygen -q -t ed25519 -N '' -C '' -f "$NEW/etc/ssh/ssh_host_ed25519_key"
  chmod 644 "$NEW/etc/ssh/ssh_host_ed25519_key.pub"
  {
    echo "host_key=$(cut -d' ' -f1,2 "$NEW/etc/ssh/ssh_host_ed25519_key.pub")"
    echo "machine_id=$machine_id"
    order_firmware
  } >"$RUN/facts"
  stop_watchdog || fail boot.stage-failed "the BMC's watchdog can't be stopped: nobody is given a machine that it may reset"
}

# tar replaces a link where a file of its own goes, and follows one on the way there, out of the image and into this ramdisk.
require_directories() {
  tar -t -f "$1" | sed -n 's|/[^/]*$||p' | sort -u >"$RUN/directories"
  while read -r path; do
    make_directory "$path"
  done <"$RUN/directories"
}
