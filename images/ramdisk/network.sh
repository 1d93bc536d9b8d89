# shellcheck shell=sh
# The one address this machine has while it is deployed. It is a permanent reservation and comes with the boot script, so
# that no second DHCP conversation is needed here, and none can be answered by somebody else.

MAC_HYPHENS='[0-9a-f]{2}(-[0-9a-f]{2}){5}'
IPV4='[0-9]{1,3}(\.[0-9]{1,3}){3}'

stage_network() {
  mac=$(parameter mac "$MAC_HYPHENS")
  mac=$(echo "$mac" | tr - :)
  address=$(parameter ip "$IPV4/[0-9]{1,2}")

  # A driver may load firmware first; a switch port may listen for half a minute before it forwards (spanning tree).
  nic=$(wait_until 300 0.1 nic_with_mac "$mac") || fail boot.stage-failed "no NIC has the MAC $mac; found: $(nic_list)"
  ip link set lo up
  ip link set "$nic" up
  wait_until 600 0.1 has_carrier "$nic" || fail boot.stage-failed "no link on $nic within 60 s"
  ip address replace "$address" dev "$nic"
  if grep -q ' rackstart\.gw=' "$PROC/cmdline"; then
    gateway=$(parameter gw "$IPV4")
    ip route replace default via "$gateway" dev "$nic"
  fi
}

nic_with_mac() {
  for nic in $(nics); do
    if [ "$(cat "$SYS/class/net/$nic/address")" = "$1" ]; then
      echo "$nic"
      return
    fi
  done
  return 1
}

# NICs that are hardware, and Ethernet (ARPHRD_ETHER is 1).
nics() {
  for path in "$SYS"/class/net/*; do
    [ -e "$path/device" ] && [ "$(cat "$path/type")" = 1 ] && echo "${path##*/}"
  done
  return 0
}

nic_list() {
  for nic in $(nics); do printf '%s %s; ' "$nic" "$(cat "$SYS/class/net/$nic/address")"; done
}

# `carrier` cannot be read while the link is down.
has_carrier() {
  [ "$(cat "$SYS/class/net/$1/carrier" 2>/dev/null)" = 1 ]
}

# wait_until LOOKS PAUSE COMMAND...: looks that often, with so many seconds between.
wait_until() {
  looks=$1
  pause=$2
  shift 2
  while ! "$@"; do
    looks=$((looks - 1))
    [ "$looks" -gt 0 ] || return 1
    sleep "$pause"
  done
}
