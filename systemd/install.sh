#!/bin/sh
# install.sh [--root DIRECTORY]: installs Rackstart from the release tree that this file is in, or brings an installed one up
# to it, and starts it once /etc/rackstart/rackstart.yaml is there. May be run any number of times: settings, master key and
# state stay. Run it again when the NIC in rackstart.yaml has changed. With --root nothing is started: an image is made.
set -eu

program=/opt/rackstart
settings=/etc/rackstart/rackstart.yaml
units=/etc/systemd/system
sockets='rackstart-dhcp.socket rackstart-proxydhcp.socket rackstart-tftp.socket'
service=rackstart.service

main() {
  release=$(cd "$(dirname "$0")/.." && pwd)
  root=
  case $#,${1-} in
    0,) ;;
    2,--root) root=$(cd "$2" && pwd) ;;
    *) give_up 'usage: install.sh [--root DIRECTORY]' ;;
  esac
  node=$release/node_modules/.bin/node
  [ "$(id -u)" = 0 ] || give_up 'this needs root'
  [ -x "$node" ] || give_up "the release is not complete; run in $release: npm ci --omit=dev"
  umask 022

  # First, since it may say no, and nothing has changed then.
  device=$(provisioning_device)
  copy_program
  stop_units
  replace_program
  install_units
  compile_program
  install_master_key
  enable_units
  start_units
  tell_missing
}

# The NIC that the settings name; empty when they name none, or are still to be written. Wrong settings end the installation.
provisioning_device() {
  [ -e "$root$settings" ] || return 0
  # shellcheck disable=SC2016 # JavaScript's
  "$node" --input-type=module --eval '
    const [release, settings] = process.argv.slice(1);
    const { loadConfig } = await import(`${release}/appliance/config.ts`);
    const config = await loadConfig(settings, {}).catch(({ message }) => {
      console.error(`rackstart: ${message}`);
      process.exit(1);
    });
    console.log(config.provisioning?.device ?? "");
  ' "$release" "$root$settings"
}

# Beside the installed program, which goes on meanwhile.
copy_program() {
  [ "$release" = "$root$program" ] && return
  say "copying $release to $root$program"
  rm -rf "$root$program.new"
  mkdir -p "$root$program.new"
  # No dot files: git's among them.
  cp -dR --preserve=mode,timestamps "$release"/* "$root$program.new"
  # Whatever the umask of who fetched the release.
  chmod -R u=rwX,go=rX "$root$program.new"
}

replace_program() {
  if [ -e "$root$program.new" ]; then
    rm -rf "$root$program.old"
    [ ! -e "$root$program" ] || mv "$root$program" "$root$program.old"
    mv "$root$program.new" "$root$program"
    rm -rf "$root$program.old"
  fi
  mkdir -p "$root/usr/local/bin"
  cat >"$root/usr/local/bin/rackstart" <<PROGRAM
#!/bin/sh
export NODE_COMPILE_CACHE=$program/compiled
exec $program/node_modules/.bin/node $program/appliance/main.ts "\$@"
PROGRAM
  chmod 755 "$root/usr/local/bin/rackstart"
}

install_units() {
  from=$root$program/systemd
  mkdir -p "$root$units" "$root/etc/sysusers.d" "$root/etc/tmpfiles.d"
  for unit in $sockets $service; do
    install -m 644 "$from/$unit" "$root$units/$unit"
  done
  install -m 644 "$from/rackstart.sysusers" "$root/etc/sysusers.d/rackstart.conf"
  install -m 644 "$from/rackstart.tmpfiles" "$root/etc/tmpfiles.d/rackstart.conf"
  systemd-sysusers ${root:+--root="$root"} "$root/etc/sysusers.d/rackstart.conf"
  systemd-tmpfiles ${root:+--root="$root"} --create "$root/etc/tmpfiles.d/rackstart.conf"
  install -m 644 "$from/rackstart.yaml" "$root$settings.example"
}

# What Node compiles the program to, once: the service starts in a quarter of the time, and may not write code itself. Node
# keeps it apart by version and user.
compile_program() {
  rm -rf "$root$program/compiled"
  is_running_system || return 0
  install -d -m 755 -o rackstart "$program/compiled"
  # shellcheck disable=SC2016 # JavaScript's
  setpriv --reuid=rackstart --regid=rackstart --clear-groups --bounding-set=-all \
    env NODE_COMPILE_CACHE="$program/compiled" "$program/node_modules/.bin/node" --input-type=module --eval '
      for (const file of ["cli/program.ts", "appliance.ts"]) await import(`${process.argv[1]}/appliance/${file}`);
    ' "$program"
  chown -R root:root "$program/compiled"
  chmod -R u=rwX,go=rX "$program/compiled"
}

install_master_key() {
  key=$root/etc/credstore/rackstart-master-key
  [ -e "$key" ] || [ -e "$root/etc/credstore.encrypted/rackstart-master-key" ] && return
  # Whole or not at all: a half one would be taken for the key.
  (umask 077 && head -c 32 /dev/urandom >"$key.new")
  sync "$key.new"
  mv "$key.new" "$key"
  say "made a master key, $key: keep a copy of it apart from the database"
}

enable_units() {
  # shellcheck disable=SC2086 # lists of words, here and below
  systemctl ${root:+--root="$root"} --quiet disable $sockets $service 2>/dev/null
  for unit in $sockets $service; do
    bind_to_device "$unit"
  done
  if [ -n "$device" ]; then
    # shellcheck disable=SC2086
    systemctl ${root:+--root="$root"} --quiet enable $sockets
  fi
  systemctl ${root:+--root="$root"} --quiet enable $service
}

# bind_to_device UNIT: it begins with the NIC and ends with it, so that a NIC that comes back finds ports opened anew.
bind_to_device() {
  dropin=$root$units/$1.d/device.conf
  rm -f "$dropin"
  [ -n "$device" ] || return 0
  mkdir -p "$root$units/$1.d"
  nic=$(systemd-escape --path --suffix=device "/sys/subsystem/net/devices/$device")
  {
    echo '# Written by install.sh from rackstart.yaml.'
    case $1 in
      *.socket) printf '[Socket]\nBindToDevice=%s\n[Install]\nWantedBy=\nWantedBy=%s\n' "$device" "$nic" ;;
      *) printf '[Unit]\nBindsTo=%s\nAfter=%s\n[Install]\nWantedBy=%s\n' "$nic" "$nic" "$nic" ;;
    esac
  } >"$dropin"
}

stop_units() {
  is_running_system || return 0
  # Together: a packet to a socket whose service has stopped starts that again.
  # shellcheck disable=SC2086
  systemctl stop $sockets $service 2>/dev/null || true
}

start_units() {
  is_running_system || return 0
  systemctl daemon-reload
  if [ ! -e "$settings" ]; then
    say "write $settings, as in $settings.example, and run this again"
    return
  fi
  if [ -n "$device" ]; then
    # shellcheck disable=SC2086
    systemctl start $sockets || give_up "its ports could not be opened: see systemctl status 'rackstart-*'"
  fi
  if ! systemctl start $service; then
    journalctl --unit=$service --lines=20 --no-pager --output=cat >&2
    give_up 'it is installed and does not start; above is why'
  fi
  say "runs; its API key for the operator is in the state directory: operator.key"
}

# Recommended, not required: everything else works without.
tell_missing() {
  for need in qemu-img:qemu-utils bwrap:bubblewrap; do
    [ -x "$root/usr/bin/${need%:*}" ] ||
      say "the package ${need#*:} is missing: without it no image is made of qcow2, VMDK or VHDX; apt-get install ${need#*:}"
  done
}

is_running_system() {
  [ -z "$root" ] && [ -d /run/systemd/system ]
}

say() {
  echo "rackstart: $*"
}

give_up() {
  echo "rackstart: $*" >&2
  exit 1
}

main "$@"
