#!/bin/sh
# Everything that `npm run demo` and `npm test` need on a Debian 12 machine with Node.js and npm: npm packages (Node 24 is
# one of them), Debian packages, the ramdisk and the OS image. What is there already is left alone, so that a second run
# takes about a second. `--fast` is for `npm run test:fast`: no whole machines, and what needs root may be missing;
# `--bench` for `npm run bench`.
set -eu

# Peers and servers that the tests of single programs start, and what compiles the ramdisk's program.
test_packages='atftp btrfs-progs bubblewrap cpio curl dnsmasq-base gcc ipmitool iproute2 ipxe isc-dhcp-client
  isc-dhcp-relay libc6-dev libcurl4-openssl-dev libssl-dev libzstd-dev nginx-light openipmi openssh-client openssh-server
  openssl postgresql procps python3 qemu-utils redis-server shellcheck socat strace systemd tar tcpdump tftp-hpa
  tftpd-hpa tshark udhcpc xfsprogs zstd'

# Machines, and what builds the ramdisk and the OS image they boot.
machine_packages='busybox-static dosfstools e2fsprogs efibootmgr fdisk grub-efi-amd64-bin grub-pc-bin initramfs-tools-core
  hdparm ipxe-qemu kexec-tools kmod mdadm mmdebstrap mtools nftables nvme-cli ovmf qemu-system-x86 seabios smartmontools
  udev'

# Servers and tools that the benches measure ours beside.
bench_packages='bmap-tools dnsmasq-base kea-admin kea-dhcp4-server nginx-light'

main() {
  cd "$(dirname "$0")/.."
  # npm puts the project's programs first; root's PATH lacks the sbin directories after a plain `su`.
  PATH=$PWD/node_modules/.bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin
  log=$(mktemp)
  trap clean_up EXIT
  trap 'exit 130' INT TERM

  npm_packages
  # shellcheck disable=SC2086 # lists of words
  if [ "${1-}" = --fast ]; then
    debian_packages $test_packages || echo "setup: going on without; tests that need them are skipped"
  else
    is_root || give_up "machines need root (network namespaces, disk images); run: sudo npm run ${npm_lifecycle_event:-test}"
    [ "${1-}" = --bench ] || bench_packages=
    debian_packages $test_packages $machine_packages $bench_packages
    node lab/setup/prepare.ts
  fi
}

npm_packages() {
  stamp=node_modules/.lock-file.sha256
  if ! sha256sum --check --status "$stamp" 2>/dev/null; then
    # Older npms warn of the engines of packages that the Node 24 to be installed runs.
    step 'npm packages' npm ci --loglevel=error --no-progress
    # With scripts off (.npmrc) npm 9 forgets the programs of optional packages, Node 24 among them: rebuild links them.
    [ -e node_modules/.bin/node ] || npm rebuild --loglevel=error >"$log"
    sha256sum package-lock.json >"$stamp"
  fi
  case $(node --version) in
    v2[4-9].* | v[3-9]?.*) ;;
    *) give_up "Node $(node --version) is too old, and there is no package of Node 24 for $(uname -sm)" ;;
  esac
}

debian_packages() {
  missing=$(missing_packages "$@")
  [ -z "$missing" ] && return
  if ! is_root; then
    echo "setup: Debian packages are missing; run: sudo apt-get install --no-install-recommends $missing"
    return 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  keep_services_off
  step 'Debian package lists' apt-get update -q -o DPkg::Lock::Timeout=300
  # shellcheck disable=SC2086 # a list of words
  step "Debian packages: $missing" \
    apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 $missing
}

missing_packages() {
  command -v dpkg-query >/dev/null || give_up 'the lab needs Debian 12'
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}:' "$@" 2>/dev/null || true)
  for package in "$@"; do
    case :$installed in
      *":installed $package:"*) ;;
      *) printf '%s ' "$package" ;;
    esac
  done
}

# The tests start the servers they need themselves; Debian would start its own at installation (PostgreSQL, sshd).
keep_services_off() {
  [ -e /usr/sbin/policy-rc.d ] && return
  policy=/usr/sbin/policy-rc.d
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
}

clean_up() {
  rm -f "$log" ${policy+"$policy"}
}

# step TITLE COMMAND...: one line with the time it took; what the command writes is shown when it fails.
step() {
  printf 'setup: %s ... ' "$1"
  began=$(date +%s)
  shift
  if ! "$@" >"$log" 2>&1 </dev/null; then
    echo 'failed'
    tail -n 30 "$log" >&2
    give_up "this failed: $*"
  fi
  echo "$(($(date +%s) - began)) s"
}

is_root() {
  [ "$(id -u)" = 0 ]
}

give_up() {
  echo "setup: $*" >&2
  exit 1
}

main "$@"
