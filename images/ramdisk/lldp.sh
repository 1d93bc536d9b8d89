# shellcheck shell=sh
# What switches say of themselves and of the ports that this machine is plugged into (LLDP, IEEE 802.1AB). They say it every half a
# minute by default, and nobody waits for it: it is heard beside the inspection and the check.

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

# `lldp=NIC|FRAME` for each NIC that one was heard on, in hexadecimal. What is before it are the headers of the file and of the packet,
# 24 bytes and 16 (pcap-savefile(5)).
heard_frames() {
  for nic in $(nics); do
    if [ ! -e "$RUN/lldp/$nic" ]; then continue; fi
    frame=$(tail -c +41 "$RUN/lldp/$nic" | hexadecimal)
    if [ -n "$frame" ]; then echo "lldp=$nic|$frame"; fi
  done
}

# And forgets what was heard: machines are moved.
stop_listening() {
  for listener in "$RUN"/lldp/*.pid; do
    if [ -e "$listener" ]; then kill "$(cat "$listener")" || :; fi
  done
  rm -rf "$RUN/lldp"
}
