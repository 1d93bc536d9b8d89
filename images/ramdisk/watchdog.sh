# shellcheck shell=sh
# Where the order asks for it, the BMC's watchdog timer (IPMI 2.0 §27) watches the machine while a server is put on its disk: kept up
# every ten seconds, it resets a machine whose kernel stands still. What stands still in a stage is noticed by the appliance. The timer
# stays in this ramdisk: before the new system is started it is stopped, and must say so.

# The network function of these commands, what a timer for an operating system is called, and a reset.
APPLICATION=0x06 FOR_SYSTEM=4 RESET=1

# A machine whose BMC has no such timer, or is not to be had from here, is installed without one.
start_watchdog() {
  seconds=$(optional watchdog '[1-9][0-9]{1,2}')
  if [ -z "$seconds" ]; then return 0; fi
  if ! reach_bmc || ! set_watchdog "$RESET" $((seconds * 10)); then
    say 'no watchdog: the BMC is not to be had from here, or has none'
    return 0
  fi
  keep_up &
  echo $! >"$RUN/keeper"
  say "the BMC's watchdog resets this machine when it stands still for $seconds s"
}

# True when the timer can do nothing to this machine any more: nobody is left who would start it, and it tells so itself.
stop_watchdog() {
  if [ ! -e "$RUN/keeper" ]; then return 0; fi
  kill "$(cat "$RUN/keeper")" 2>/dev/null || :
  wait_until 300 0.1 keeper_has_ended || return 1
  wait_until 3 1 disarmed || return 1
  rm "$RUN/keeper"
}

# The kernel must not choose it when memory is short: its end would be the machine's. Whoever ends it waits for a command under way,
# which would start the timer again.
keep_up() {
  trap 'exit 0' TERM
  echo -1000 >"$PROC/self/oom_score_adj" || :
  while :; do
    ask_watchdog 0x22 || :
    sleep 10 &
    wait $!
  done
}

keeper_has_ended() {
  ! kill -0 "$(cat "$RUN/keeper")" 2>/dev/null
}

disarmed() {
  set_watchdog 0 65535 && ask_watchdog 0x25 >"$RUN/timer" && is_stopped
}

# Of the answer, bit 6 of the first byte says that it runs, the low three bits of the second what it will do.
is_stopped() {
  read -r use action _ <"$RUN/timer"
  echo "$use $action" | grep -Eqx '[0-9a-f]{2} [0-9a-f]{2}' && [ $((0x$use & 0x40)) = 0 ] && [ $((0x$action & 0x07)) = 0 ]
}

# set_watchdog ACTION TENTHS: stops the timer, and has it forget that it ever ran out.
set_watchdog() {
  ask_watchdog 0x24 "$FOR_SYSTEM" "$1" 0 $((1 << FOR_SYSTEM)) $(($2 & 0xff)) $(($2 >> 8))
}

ask_watchdog() {
  timeout 20 ipmitool raw "$APPLICATION" "$@"
}

# Drivers find their BMC in their own time.
reach_bmc() {
  load_bmc_drivers && wait_until 5 1 test -e "${IPMI:-/dev/ipmi0}"
}
