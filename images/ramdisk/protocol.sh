# shellcheck shell=sh
# The boot protocol, version 1, the machine's side. What the appliance answers is read as data, never as shell: lines
# `key=value`, each looked up by its name and held against a pattern before it is used.

PROTOCOL=1

NUMBER='[0-9]{1,15}'
CREDENTIAL='[0-9A-Za-z._~+/=-]{16,1024}'

# Claims this boot with the token of the boot script. The same nonce again is the same answer, so that an answer that was
# lost can be asked for again.
stage_claim() {
  parameter url 'https://[][0-9A-Za-z.:-]+' >"$RUN/url"
  token=$(parameter token "$CREDENTIAL")
  printf '%s' "$token" >"$RUN/token"
  tr -d '\n-' <"$PROC/sys/kernel/random/uuid" >"$RUN/nonce"
  mac=$(parameter mac "$MAC_HYPHENS")

  ask_for_claim
  field bearer "$RUN/answer" | grep -Eqx "$CREDENTIAL" || fail boot.protocol 'the claim brought no bearer'
  field generation "$RUN/answer" | grep -Eqx "$NUMBER" || fail boot.protocol 'the claim brought no generation'
  [ "$(field protocol "$RUN/answer")" = "$PROTOCOL" ] || fail boot.protocol 'the claim was answered in another protocol'

  printf 'Authorization: Bearer %s\n' "$(field bearer "$RUN/answer")" >"$RUN/bearer"
  grep -v '^bearer=' "$RUN/answer" >"$RUN/order"
  rm "$RUN/token" "$RUN/answer"
}

ask_for_claim() {
  for attempt in 1 2 3 4 5 6 7 8 9 10 11 12; do
    status=$(call /boot/v1/claim --data-urlencode "protocol=$PROTOCOL" --data-urlencode "token@$RUN/token" \
      --data-urlencode "nonce@$RUN/nonce" --data-urlencode "mac=$mac" --data-urlencode "uuid=$(smbios product_uuid)")
    case $status in
      200) return ;;
      403) fail boot.token-refused "the appliance refused the claim: $(complaint)" ;;
      409) fail boot.claim-conflict 'somebody else claimed this boot' ;;
      426) fail boot.protocol "the appliance does not speak version $PROTOCOL of the boot protocol" ;;
      4*) fail boot.stage-failed "the appliance refused the claim: $(complaint)" ;;
    esac
    echo "claim: attempt $attempt, status $status"
    sleep 3
  done
  fail boot.stage-failed 'the appliance does not answer'
}

has_order() {
  [ -s "$RUN/order" ]
}

# The appliance said that this boot was replaced, or its credential is revoked.
cut_off() {
  [ -e "$RUN/cut-off" ]
}

# Waits for the next order and makes it the order. Only a newer generation is one: nothing is ever done twice.
next_order() {
  generation=$(field generation "$RUN/order")
  while ! cut_off; do
    case $(call "/boot/v1/next?generation=$generation" --max-time 180) in
      200)
        next=$(field generation "$RUN/answer" | grep -Ex "$NUMBER")
        if [ "${next:-0}" -gt "$generation" ]; then
          mv "$RUN/answer" "$RUN/order"
          return
        fi
        sleep 1
        ;;
      204) ;;
      401 | 403 | 409 | 410) : >"$RUN/cut-off" ;;
      *) sleep 2 ;;
    esac
  done
}

# report STAGE STATUS: tells the appliance, with the facts of the stage. Before the claim there is nobody to tell: those
# reports wait in a file, with their times.
report() {
  set -- "stage=$1" "status=$2" "uptime=$(uptime_seconds)"
  if [ ! -s "$RUN/bearer" ]; then
    echo "$*" >>"$RUN/untold"
    return
  fi
  if [ -e "$RUN/untold" ]; then
    mv "$RUN/untold" "$RUN/early"
    while read -r stage status uptime; do deliver "$stage" "$status" "$uptime"; done <"$RUN/early"
  fi
  while read -r fact; do set -- "$@" "$fact"; done <"$RUN/facts"
  deliver "$@"
}

# progress STAGE BYTES: not worth a second try.
progress() {
  send_report "stage=$1" status=progress "uptime=$(uptime_seconds)" "bytes=$2" || :
}

# An appliance that is being restarted is back within two minutes; after that its own deadlines rule, and the work goes on.
deliver() {
  for _attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24; do
    if send_report "$@" || cut_off; then return; fi
    sleep 5
  done
}

# send_report KEY=VALUE...: fails when it did not arrive. A refusal for good is an arrival too.
send_report() {
  for fact; do
    set -- "$@" --data-urlencode "$fact"
    shift
  done
  case $(call /boot/v1/report --data-urlencode "generation=$(field generation "$RUN/order")" "$@") in
    401 | 403 | 409 | 410) : >"$RUN/cut-off" ;;
    2* | 4*) ;;
    *) return 1 ;;
  esac
}

# What happened here, for people: our log and the end of the kernel's, without the token that the kernel was started with.
send_log() {
  [ -s "$RUN/bearer" ] || return 0
  {
    cat "$RUN/log"
    dmesg | tail -n 500
  } | sed 's/rackstart\.token=[^ ]*/rackstart.token=.../' | tail -c 1000000 >"$RUN/log.sent"
  call /boot/v1/log -H 'Content-Type: text/plain' --data-binary "@$RUN/log.sent" >/dev/null
}

# call PATH [CURL ARGUMENTS]: one request to the appliance whose CA this ramdisk carries. Prints the HTTP status, 000 when
# there is none; what was answered is in $RUN/answer. The bearer travels in a file: arguments can be read by every process.
call() {
  path=$1
  shift
  if [ -s "$RUN/bearer" ]; then set -- -H "@$RUN/bearer" "$@"; fi
  : >"$RUN/answer"
  curl --silent --show-error --cacert "$ETC/ca.pem" --connect-timeout 5 --max-time 30 --max-filesize 16777216 \
    --output "$RUN/answer" --write-out '%{http_code}' "$@" "$(cat "$RUN/url")$path" 2>>"$RUN/log" || :
}

# The message of an error answer, {"error":{"code","message","hint"}}.
complaint() {
  sed -n 's/.*"message" *: *"\([^"]*\)".*/\1/p' "$RUN/answer" | head -n 1
}

# order NAME PATTERN: a value of the order, which must match the whole (extended) pattern; else the stage fails.
order() {
  field "$1" "$RUN/order" | grep -Ex -e "$2" || fail boot.protocol "the order has no acceptable $1"
}

# optional NAME PATTERN: as above, or nothing when the order does not name it.
optional() {
  if grep -q "^$1=" "$RUN/order"; then order "$1" "$2"; fi
}

# field NAME FILE: what follows `NAME=` on the one line that begins so; fails when there is none, or more than one.
field() {
  awk -v start="$1=" '
    index($0, start) == 1 { value = substr($0, length(start) + 1); count++ }
    END { if (count != 1) exit 1; print value }' "$2"
}

# parameter NAME PATTERN: rackstart.NAME of the kernel command line, under the same rule.
parameter() {
  tr ' ' '\n' <"$PROC/cmdline" >"$RUN/parameters"
  field "rackstart.$1" "$RUN/parameters" | grep -Ex -e "$2" || fail boot.stage-failed "the boot script gave no acceptable $1"
}
