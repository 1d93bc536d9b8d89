# shellcheck shell=sh
# What this machine is made of, as the kernel sees it.

stage_inspect() {
  bring_links_up
  stop_listening
  listen_to_switches
  inspection >"$RUN/inspection"
  status=$(insist /boot/v1/inspection -H 'Content-Type: text/plain' --data-binary "@$RUN/inspection")
  [ "$status" = 204 ] || fail boot.stage-failed "the inspection was not taken: status $status $(complaint)"
  echo "lines=$(wc -l <"$RUN/inspection")" >"$RUN/facts"
}

inspection() {
  echo "cores=$(cores)"
  echo "memory_kib=$(memory_kib)"
  echo "uuid=$(system_uuid)"
  echo "vendor=$(smbios sys_vendor)"
  echo "model=$(smbios product_name)"
  echo "serial=$(smbios product_serial)"
  if [ -d "$SYS/firmware/efi" ]; then echo firmware=uefi; else echo firmware=bios; fi
  echo "firmware_vendor=$(smbios bios_vendor)"
  echo "firmware_version=$(smbios bios_version)"
  echo "firmware_date=$(smbios bios_date)"
  echo "bmc_address=$(bmc_address)"
  memory_devices
  for disk in $(disks); do
    about="$(disk_type "$disk")|$(disk_serial "$disk")|$(disk_model "$disk")"
    echo "disk=$disk|$(disk_bytes "$disk")|$about|$(disk_wear "$disk")"
  done
  for nic in $(nics); do
    echo "nic=$nic|$(attribute "$SYS/class/net/$nic/address")|$(link "$nic")"
  done
  heard_frames
}

# Cores, not threads: the threads of one core list the same siblings.
cores() {
  cat "$SYS"/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list | sort -u | wc -l
}

# What is installed: MemTotal leaves out what firmware and kernel keep for themselves. Blocks are counted in hexadecimal.
memory_kib() {
  memory=$SYS/devices/system/memory
  if [ -e "$memory/block_size_bytes" ]; then
    echo $(($(find "$memory" -maxdepth 1 -name 'memory[0-9]*' | wc -l) * 0x$(cat "$memory/block_size_bytes") / 1024))
  else
    awk '/^MemTotal:/ { print $2 }' "$PROC/meminfo"
  fi
}

system_uuid() {
  smbios product_uuid | tr 'A-F' 'a-f'
}

smbios() {
  attribute "$SYS/class/dmi/id/$1"
}

# What the firmware tells of each memory slot (SMBIOS structures of type 17), whole and in hexadecimal: the appliance reads it.
memory_devices() {
  find "$SYS/firmware/dmi/entries" -path '*/17-*/raw' | sort -V | while read -r structure; do
    echo "memory_device=$(hexadecimal <"$structure")"
  done
}

# Where the BMC is on its network, as it says to the board that it is on.
bmc_address() {
  load_bmc_drivers || return 0
  # Asked until it answers: drivers find their BMC in their own time.
  wait_until 5 1 ask_bmc || :
  sed -nE 's/^IP Address +: ([0-9.]+)$/\1/p' "$RUN/bmc" | head -n 1
}

# False where the firmware tells of no BMC (SMBIOS structures of type 38): then nobody looks for one.
load_bmc_drivers() {
  [ -e "$SYS/firmware/dmi/entries/38-0" ] || return 1
  for driver in ipmi_si ipmi_ssif ipmi_devintf; do modprobe "$driver" || :; done
}

ask_bmc() {
  timeout 20 ipmitool lan print >"$RUN/bmc"
}

hexadecimal() {
  od -An -v -tx1 | tr -d ' \n'
}

# Percent of its life that a disk says are used, as smartctl prints it of NVMe, SCSI and ATA; nothing where it does not say.
disk_wear() {
  timeout 30 smartctl --attributes --log=ssd "/dev/$1" | sed -nE '
    s/^Percentage [Uu]sed( endurance indicator)?: *([0-9]{1,3})%.*/\2/p
    s/^0x07 +0x008 +1 +([0-9]{1,3}) .*Percentage Used Endurance Indicator.*/\1/p' | head -n 1
}

# A link that is down has no carrier to read; most need a moment to negotiate.
bring_links_up() {
  for nic in $(nics); do ip link set "$nic" up || :; done
  wait_until 50 0.1 every_carrier || :
}

every_carrier() {
  for nic in $(nics); do has_carrier "$nic" || return 1; done
}

# up|SPEED or down|; virtual NICs do not know their speed, and say -1 or nothing.
link() {
  if has_carrier "$1"; then
    echo "up|$(grep -Ex '[1-9][0-9]*' "$SYS/class/net/$1/speed" 2>/dev/null || :)"
  else
    echo 'down|'
  fi
}
