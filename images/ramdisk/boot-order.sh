# shellcheck shell=sh
# The order in which UEFI firmware tries what it can boot. The appliance decides at each start by DHCP, so the network has to come
# first; and as it often answers "the local disk", that is next. Firmware and installers put other things there.

# What became of it, as facts. Nothing of it is a reason to fail a deploy: a BMC can still say what is booted.
order_firmware() {
  if [ ! -d "$SYS/firmware/efi" ]; then return 0; fi
  show_variables
  if ! efibootmgr --verbose >"$RUN/entries"; then
    echo "boot_order_failure=$(last_words)"
    return
  fi
  was=$(sed -n 's/^BootOrder: //p' "$RUN/entries")
  wanted=$(wanted_order <"$RUN/entries")
  if [ -z "$wanted" ]; then
    echo 'boot_order_failure=the firmware does not say which of its network entries this boot came from'
  elif [ "$wanted" = "$was" ]; then
    echo "boot_order=$was"
  elif efibootmgr --quiet --bootorder "$wanted"; then
    echo "boot_order=$wanted"
    echo "boot_order_before=$was"
  else
    echo "boot_order_failure=$(last_words)"
  fi
}

show_variables() {
  variables=$SYS/firmware/efi/efivars
  if grep -q " $variables " "$PROC/mounts"; then return; fi
  modprobe efivarfs || :
  mount -t efivarfs efivarfs "$variables" || :
}

# From what efibootmgr tells: the network entry that this boot came from, then all others as they were, but other network entries
# behind the disks, and the firmware's own programs (setup, shell), which come back to nobody, behind all.
wanted_order() {
  awk -F '\t' '
    /^BootCurrent: / { current = substr($1, 14) }
    /^BootOrder: / { count = split(substr($1, 12), order, ",") }
    /^Boot[0-9A-F][0-9A-F][0-9A-F][0-9A-F]/ { path[substr($1, 5, 4)] = $2 }
    function place(entry) {
      if (path[entry] ~ /MAC\(/) return 2
      return path[entry] ~ /Fv(Vol|File)?\(/ ? 3 : 1
    }
    END {
      if (path[current] !~ /MAC\(/) exit
      wanted = current
      for (rank = 1; rank <= 3; rank++)
        for (i = 1; i <= count; i++)
          if (order[i] != current && place(order[i]) == rank) wanted = wanted "," order[i]
      print wanted
    }'
}
