# shellcheck shell=sh
# What a disk can do itself to forget what was on it, spare blocks and caches included, which nobody reaches from outside: NVMe Format
# and Sanitize (NVM Express Base Specification 2.0, 5.14 and 5.24), ATA Security Erase (ACS-4 7.42). None of it is believed: wipe.sh
# reads the disk back, and writes zeros where it does not find them.

# With which an ATA disk is locked while it erases itself; one that lost its power meanwhile is unlocked with it.
ERASE_PASSWORD=rackstart

# erase_itself DISK: leaves what was done in $method; false where the disk can't, or failed.
erase_itself() {
  method=
  case $1 in
    /dev/nvme*) nvme_format "$1" || nvme_sanitize "$1" ;;
    *) ata_erase "$1" ;;
  esac
}

# By its key where it encrypts all that it writes, else by its blocks; in the format that it has.
nvme_format() {
  [ $(($(nvme_field id-ctrl "$1" oacs) & 2)) != 0 ] || return 1
  formatted=$(nvme_field id-ns "$1" flbas)
  protected=$(nvme_field id-ns "$1" dps)
  set -- "$1" --lbaf=$(((formatted & 15) | (formatted >> 1 & 48))) --ms=$((formatted >> 4 & 1)) \
    --pi=$((protected & 7)) --pil=$((protected >> 3 & 1)) --force --timeout=86400000
  if [ $(($(nvme_field id-ctrl "$1" fna) & 4)) != 0 ] && attended nvme format "$@" --ses=2; then
    method=nvme-format-crypto
  elif attended nvme format "$@" --ses=1; then
    method=nvme-format
  else
    method=
    return 1
  fi
}

# It goes on inside the disk after the command has returned; the log says how far it is.
nvme_sanitize() {
  can=$(nvme_field id-ctrl "$1" sanicap)
  if [ $((can & 2)) != 0 ]; then
    nvme sanitize "$1" --sanact=2 && method=nvme-sanitize-block
  elif [ $((can & 1)) != 0 ]; then
    nvme sanitize "$1" --sanact=4 && method=nvme-sanitize-crypto
  fi
  [ -n "$method" ] || return 1
  while :; do
    # SSTAT (figure 250): 1 and 4, done; 2, under way; 3, failed.
    case $(($(nvme_field sanitize-log "$1" sstat) & 7)) in
      1 | 4) return 0 ;;
      2) ;;
      *) method= && return 1 ;;
    esac
    progress wipe 0
    if cut_off; then fail boot.stale 'the appliance ended this boot'; fi
    sleep 10
  done
}

# nvme_field COMMAND DISK NAME: a number that nvme prints as `name : 0x1f`; 0 when it does not.
nvme_field() {
  value=$(nvme "$1" "$2" | awk -F: -v name="$3" '{ key = tolower($1); gsub(/[^a-z()]/, "", key) }
    key == name || index(key, "(" name ")") { gsub(/[ \t]/, "", $2); print $2; exit }')
  case $value in
    0x*[!0-9a-fA-F]* | *[!0-9a-fA-Fx]* | '') echo 0 ;;
    *) echo $((value)) ;;
  esac
}

ata_erase() {
  hdparm -I "$1" >"$RUN/ata" 2>>"$RUN/log" || return 1
  ata_says 'supported' || return 1
  if ata_says 'frozen'; then
    say "$1 is frozen by the firmware and takes no erase command"
    return 1
  fi
  kind=erase
  # A plain erase of a hard disk leaves zeros; what an enhanced one leaves is up to the disk.
  case $(disk_type "${1#/dev/}") in
    ssd) if ata_says 'supported: enhanced erase'; then kind=erase-enhanced; fi ;;
  esac
  ata_says 'enabled' || hdparm --user-master u --security-set-pass "$ERASE_PASSWORD" "$1" || return 1
  if attended hdparm --user-master u --security-"$kind" "$ERASE_PASSWORD" "$1"; then
    method=ata-$kind
  else
    hdparm --user-master u --security-disable "$ERASE_PASSWORD" "$1" || :
    return 1
  fi
}

# ata_says LINE: of the part "Security" of what the disk tells, whose lines begin with "not" where it is otherwise.
ata_says() {
  sed -n '/^Security:/,/^[^[:space:]]/p' "$RUN/ata" | sed 's/^[[:space:]]*//; s/[[:space:]]*$//; s/[[:space:]][[:space:]]*/ /g' | grep -Fqx "$1"
}

# attended COMMAND...: what takes minutes to hours, and is silent meanwhile.
attended() {
  "$@" &
  pid=$!
  seconds=0
  while kill -0 "$pid" 2>/dev/null; do
    if [ $((seconds % 20)) = 19 ]; then progress wipe 0; fi
    seconds=$((seconds + 1))
    sleep 1
  done
  wait "$pid"
}
