# shellcheck shell=sh disable=SC2154 # names that other parts give
# Chunks and their map on the way from the server to the memory. They come in the clear: what is not held against its digest
# yet is anybody's. Uses what chunks.sh has read from the order; each worker is in $work/chunk, under a number of its own.

# In vain, one after the other: about a minute, which an appliance needs that is being restarted.
TRIES=9
# What came whole, and is another.
WRONG_TRIES=3

fetch_map() {
  tries=0 wrong=0
  while :; do
    if fetch_into "$map_bytes" --output "$work/map" "$map_url"; then
      got=$(openssl dgst -sha256 -r <"$work/map" | cut -c1-64)
      if [ "$got" = "$map_digest" ]; then return; fi
      wrong=$((wrong + 1))
      [ "$wrong" -lt "$WRONG_TRIES" ] || fail image.digest "the image's map has the SHA-256 $got, ordered was $map_digest"
    fi
    try_again_later
  done
}

# fetch_items ITEM...: each chunk in a file of its own, verified. What is there from an earlier start is not fetched again;
# a chunk that was cut goes on where it was.
fetch_items() {
  tries=0 most_here=0 wrong=''
  verify_items "$@"
  while [ -n "$missing" ]; do
    for item in $missing; do
      printf 'url = "%s/%s"\noutput = "%s"\n' "$chunk_url" "${item#*/}" "${item%/*}"
    done >"$work/asked-$worker"
    fetch_into "$MOST_CHUNK" --continue-at - --config "$work/asked-$worker" || :
    verify_items "$@"
    [ -n "$missing" ] || break
    if stopped; then exit 1; fi
    drop_spoilt
    if more_than_before "$@"; then tries=0; fi
    try_again_later
  done
}

# verify_items ITEM...: `missing` are those whose file is not there, or not yet right.
verify_items() {
  missing=$*
  files=''
  for item; do
    if [ -s "${item%/*}" ]; then files="$files ${item%/*}"; fi
  done
  [ -n "$files" ] || return 0
  # shellcheck disable=SC2086 # words
  openssl dgst -sha256 -r $files >"$work/sums-$worker"
  right=' '
  while read -r sum file; do right="$right${file#\*}/$sum "; done <"$work/sums-$worker"
  missing=''
  for item; do
    case $right in
      *" $item "*) ;;
      *) missing="$missing$item " ;;
    esac
  done
}

# What can't become right by going on: a chunk that came whole and is another, one longer than a chunk can be, one whose
# rest the server does not have or give.
drop_spoilt() {
  while read -r ended status offset _said; do
    case " $missing" in
      *" $offset/"*) ;;
      *) continue ;;
    esac
    case $ended:$status in
      0:*) note_wrong "$offset" ;;
      23:* | 33:* | 63:* | 22:416) ;;
      *) continue ;;
    esac
    rm -f "$offset"
  done <"$work/told-$worker"
}

note_wrong() {
  wrong="$wrong $1" times=0
  for one in $wrong; do
    [ "$one" != "$1" ] || times=$((times + 1))
  done
  echo "chunk at byte $1: came with another content, $times of $WRONG_TRIES" >&2
  [ "$times" -lt "$WRONG_TRIES" ] ||
    fail image.altered "the image's chunk at byte $1 came $times times with another content than its digest says"
}

# As long as more is here than ever before, it is worth going on.
more_than_before() {
  files=''
  for item; do
    if [ -s "${item%/*}" ]; then files="$files ${item%/*}"; fi
  done
  here=0
  # shellcheck disable=SC2086 # words
  [ -z "$files" ] || here=$(cat $files | wc -c)
  [ "$here" -gt "$most_here" ] || return 1
  most_here=$here
}

# A backoff that ends at eight pauses.
try_again_later() {
  tries=$((tries + 1))
  told=$(one_line "$(tail -n 1 "$work/told-$worker")")
  echo "try $tries of $TRIES: $told" >&2
  [ "$tries" -lt "$TRIES" ] || fail boot.stage-failed "the image did not arrive: $told"
  pauses=8
  [ "$tries" -gt 3 ] || pauses=$((1 << (tries - 1)))
  sleep $((pauses * RETRY_PAUSE))
}

# fetch_into BYTES CURL-ARGUMENTS...: no file becomes longer than BYTES (and the rest of its sector); what curl has to say of each
# transfer is in told-N, N being the worker's number.
fetch_into() {
  most=$1
  shift
  (
    # Beyond the limit a write then fails, which curl tells, instead of killing it.
    trap '' XFSZ
    ulimit -f $(((most + 511) / 512))
    exec curl --silent --fail --fail-early --globoff --connect-timeout 5 --speed-limit 1024 --speed-time 15 \
      --max-filesize "$most" --write-out '%{exitcode} %{http_code} %{filename_effective} %{errormsg}\n' "$@"
  ) >"$work/told-$worker"
}
