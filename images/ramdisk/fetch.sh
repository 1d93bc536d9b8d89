# shellcheck shell=sh disable=SC2154 # names that other parts give
# The map of an image on its way from the server to the memory, in the clear: it is anybody's until it is held against the
# digest that the order names. Chunks are fetched by write-chunks.c, by the same rules.

# In vain, one after the other: about a minute, which an appliance needs that is being restarted.
TRIES=9
# What came whole, and is another.
WRONG_TRIES=3

fetch_map() {
  tries=0 wrong=0
  while :; do
    if fetch_into "$map_bytes" "$work/map" "$map_url"; then
      got=$(openssl dgst -sha256 -r <"$work/map" | cut -c1-64)
      if [ "$got" = "$map_digest" ]; then return; fi
      wrong=$((wrong + 1))
      [ "$wrong" -lt "$WRONG_TRIES" ] || fail image.digest "the image's map has the SHA-256 $got, ordered was $map_digest"
    fi
    tries=$((tries + 1))
    told=$(one_line "$(tail -n 1 "$work/told")")
    echo "map: try $tries of $TRIES: $told" >&2
    [ "$tries" -lt "$TRIES" ] || fail image.unreachable "the image did not arrive: $told"
    pauses=8
    [ "$tries" -gt 3 ] || pauses=$((1 << (tries - 1)))
    while [ "$pauses" -gt 0 ]; do
      sleep "$RETRY_PAUSE"
      pauses=$((pauses - 1))
    done
  done
}

# fetch_into BYTES FILE URL: the file becomes no longer than BYTES (and the rest of its sector); what curl says is in `told`.
fetch_into() {
  (
    # Beyond the limit a write then fails, which curl tells, instead of killing it.
    trap '' XFSZ
    ulimit -f $((($1 + 511) / 512))
    exec curl --silent --fail --globoff --connect-timeout 5 --speed-limit 1024 --speed-time 15 \
      --max-filesize "$1" --write-out '%{http_code} %{errormsg}\n' --output "$2" "$3"
  ) >"$work/told"
}
