# shellcheck shell=sh
# What switches say of themselves and of the ports that this machine is plugged into (LLDP, IEEE 802.1AB). They say it every half a
# minute by default. It is heard beside the inspection and the check, and waited for only where the order says so.

# On each NIC that has a link, for one frame. Where somebody listens, or has heard one, nothing is begun anew.
listen_to_switches() {
  mkdir -p "$RUN/lldp"
  for nic in $(nics); do
    if [ -e "$RUN/lldp/$nic.pid" ] || ! has_carrier "$nic"; then continue; fi
    # Debian's tcpdump would go on as a user whom this ramdisk does not have.
    tcpdump -Z root -i "$nic" -s 1518 -c 1 -U -w "$RUN/lldp/$nic" ether proto 0x88cc >/dev/null 2>&1 &
    echo $! >"$RUN/lldp/$nic.pid"
  done
}

# wait_for_switches SECONDS: at most so long, for those on every NIC that is listened to; not at all when nothing is said.
wait_for_switches() {
  if [ "${1:-0}" -gt 0 ]; then wait_until "$1" 1 every_switch_heard || :; fi
}

every_switch_heard() {
  for listener in "$RUN"/lldp/*.pid; do
    if [ -e "$listener" ] && ! has_frame "${listener%.pid}"; then return 1; fi
  done
}

# A file of pcap (pcap-savefile(5)) has headers of 24 bytes, and 16 before each packet.
has_frame() {
  [ -e "$1" ] && [ "$(wc -c <"$1")" -gt 40 ]
}

# `lldp=NIC|FRAME` for each NIC that one was heard on, in hexadecimal.
heard_frames() {
  for nic in $(nics); do
    if has_frame "$RUN/lldp/$nic"; then echo "lldp=$nic|$(tail -c +41 "$RUN/lldp/$nic" | hexadecimal)"; fi
  done
}

# And forgets what was heard: machines are moved.
stop_listening() {
  for listener in "$RUN"/lldp/*.pid; do
    if [ -e "$listener" ]; then kill "$(cat "$listener")" || :; fi
  done
  rm -rf "$RUN/lldp"
}
