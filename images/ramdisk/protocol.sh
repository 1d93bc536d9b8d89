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
  field generation "$RUN/answer" | grep -Eqx "$NUMBER" || fail boot.protocol 'the claim brought no generation'
  [ "$(field protocol "$RUN/answer")" = "$PROTOCOL" ] || fail boot.protocol 'the claim was answered in another protocol'
  take_order || fail boot.protocol 'the claim brought no bearer'
  rm "$RUN/token"
}

# The answer becomes the order, and what it brings the bearer from here on; fails when it brings none.
take_order() {
  field bearer "$RUN/answer" | grep -Eqx "$CREDENTIAL" || return 1
  printf 'Authorization: Bearer %s\n' "$(field bearer "$RUN/answer")" >"$RUN/bearer"
  grep -v '^bearer=' "$RUN/answer" >"$RUN/order"
  rm "$RUN/answer"
}

ask_for_claim() {
  status=$(insist /boot/v1/claim --data-urlencode "protocol=$PROTOCOL" --data-urlencode "token@$RUN/token" \
    --data-urlencode "nonce@$RUN/nonce" --data-urlencode "mac=$mac" --data-urlencode "uuid=$(system_uuid)" \
    --data-urlencode "ramdisk=$(cat "$ETC/version")")
  case $status in
    200) ;;
    403) fail boot.token-refused "the appliance refused the claim: $(complaint)" ;;
    409) fail boot.claim-conflict 'somebody else claimed this boot' ;;
    426) fail boot.protocol "the appliance does not speak version $PROTOCOL of the boot protocol" ;;
    4*) fail boot.stage-failed "the appliance refused the claim: $(complaint)" ;;
    *) fail boot.stage-failed 'the appliance does not answer' ;;
  esac
}

has_order() {
  [ -s "$RUN/order" ]
}

# The appliance said that this boot was replaced, or its credential is revoked.
cut_off() {
  [ -e "$RUN/cut-off" ]
}

# Waits for the next order, for days if need be, and makes it the order. Only a newer generation is one: nothing is ever done
# twice. The appliance answers after half a minute; one that says nothing for a minute is not there.
next_order() {
  tell
  generation=$(field generation "$RUN/order")
  while ! cut_off; do
    case $(call "/boot/v1/next?generation=$generation" --max-time 60) in
      200)
        next=$(field generation "$RUN/answer" | grep -Ex "$NUMBER")
        if [ "${next:-0}" -gt "$generation" ] && take_order; then return; fi
        sleep "$(jitter)"
        ;;
      204) ;;
      401 | 403 | 409 | 410) : >"$RUN/cut-off" ;;
      *) sleep "$(jitter)" ;;
    esac
  done
}

# Up to eight seconds, drawn anew: machines whose appliance was restarted lost it at the same moment, and must not come back so.
jitter() {
  od -An -N2 -tu2 /dev/urandom | awk '{ printf "%.2f", $1 / 8192 }'
}

# report STAGE STATUS: for the appliance, with the facts of the stage. Most of its cost is a TLS handshake, so that a stage's end
# waits for what is told next, which follows at once.
report() {
  {
    printf 'stage=%s\nstatus=%s\nuptime=%s\n' "$1" "$2" "$(uptime_seconds)"
    cat "$RUN/facts"
    echo
  } >>"$RUN/untold"
}

# Tells what has not been told. Before the claim there is nobody to tell.
tell() {
  tell_meanwhile
  if [ -n "$telling" ]; then wait "$telling" || :; fi
  telling=
}

# The same, while the work goes on; what is told next waits for it. An appliance that is being restarted is back within two minutes;
# after that its own deadlines rule.
tell_meanwhile() {
  if [ -n "$telling" ]; then wait "$telling" || :; fi
  telling=
  if [ ! -s "$RUN/bearer" ] || [ ! -e "$RUN/untold" ]; then return; fi
  mv "$RUN/untold" "$RUN/telling"
  tell_all "$RUN/telling" &
  telling=$!
}

telling=

tell_all() {
  for _attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24; do
    if send_reports "$1" || cut_off; then return; fi
    sleep 5
  done
}

# progress STAGE BYTES: not worth a second try.
progress() {
  [ -s "$RUN/bearer" ] || return 0
  printf 'stage=%s\nstatus=progress\nuptime=%s\nbytes=%s\n\n' "$1" "$(uptime_seconds)" "$2" >"$RUN/progress"
  send_reports "$RUN/progress" || :
}

# send_reports FILE: those in the file, each ended by an empty line, over one connection; fails when not all arrived. What
# the appliance does not understand has arrived too; and when it says that this boot is over, it is.
send_reports() {
  awk -v url="$(cat "$RUN/url")/boot/v1/report" -v bearer="$RUN/bearer" -v ca="$ETC/ca.pem" \
    -v generation="$(field generation "$RUN/order")" '
    function option(name, value) { gsub(/[\\"]/, "\\\\&", value); printf "%s = \"%s\"\n", name, value }
    /^$/ { reports++; open = 0; next }
    !open {
      if (reports) print "next"
      option("url", url); option("cacert", ca); option("header", "@" bearer); option("output", "/dev/null")
      option("connect-timeout", 5); option("max-time", 30); print "write-out = \"%{http_code}\\n\""
      option("data-urlencode", "generation=" generation)
      open = 1
    }
    { option("data-urlencode", $0) }' "$1" >"$1.curl"
  curl --silent --show-error --config "$1.curl" >"$1.status" 2>>"$RUN/log" || :
  if grep -Eqx '401|403|409|410' "$1.status"; then : >"$RUN/cut-off"; fi
  [ -s "$1.status" ] && ! grep -Eqx '000|5..' "$1.status"
}

# What happened here, for people: the end of the kernel's log and all of ours, without the token that the kernel was started with.
send_log() {
  [ -s "$RUN/bearer" ] || return 0
  {
    dmesg | tail -n 500
    cat "$RUN/log"
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
  # Of an answer that broke off curl tells the status all the same.
  if answered=$(curl --silent --show-error --cacert "$ETC/ca.pem" --connect-timeout 5 --max-time 30 \
    --max-filesize 16777216 --output "$RUN/answer" --write-out '%{http_code}' "$@" "$(cat "$RUN/url")$path" 2>>"$RUN/log"); then
    echo "$answered"
  else
    echo 000
  fi
}

# insist PATH [CURL ARGUMENTS]: as `call`, for as long as an appliance needs that is being restarted. What it asks must be
# repeatable, as every request of the protocol is.
insist() {
  for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24; do
    answered=$(call "$@")
    case $answered in
      000 | 5*) echo "request $1: attempt $attempt, status $answered" >>"$RUN/log" ;;
      *) break ;;
    esac
    sleep 3
  done
  echo "$answered"
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
