#!/bin/sh
# Restores from a bkp repository without bkp: with age, zstd, and what every Unix has (sh, grep, awk, base64, sha256sum).
#
#   sh restore.sh -i KEY [-r REPOSITORY] list                                  the points there are
#   sh restore.sh -i KEY [-r REPOSITORY] show SOURCE [POINT|latest]            all that is known about one, as JSON
#   sh restore.sh -i KEY [-r REPOSITORY] stream SOURCE [POINT|latest] [STREAM] > FILE
#   sh restore.sh -i KEY [-r REPOSITORY] tree SOURCE [POINT|latest] > FILE.tar  (needs python3)
#
#   -i KEY     the recovery key: an age identity file or an ssh private key
#   -r DIR     the repository, as a directory (default: where this script is stored); copy a bucket first: aws s3 sync s3://BUCKET/PREFIX DIR
#   -o FILE    write to FILE, which must not exist and appears only when it is complete and verified
#   -k KEY     the public key of the writer, ed25519:BASE64, when KEY has no line "# bkp-writer: W ed25519:BASE64"
# SOURCE may be written WRITER/SOURCE when several writers have a source of that name.
# Exit: 0 done, 1 failed, 2 usage, 4 damaged or forged, 10 no repository, 12 wrong key. The format is explained in docs/FORMAT.md of bkp.
set -u
umask 077
LC_ALL=C
export LC_ALL

say() { printf '%s\n' "$*" >&2; }
die() {
  code=$1
  shift
  say "restore.sh: $*"
  exit "$code"
}
usage() {
  sed -n '2,15s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

HERE=$(dirname "$0") KEY='' REPO='' OUT='' WRITER_KEY='' COMMAND='' SOURCE='' POINT=latest STREAM='' EPOCHS='' PARTIAL=''
words=0
while [ $# -gt 0 ]; do
  case $1 in
    -i | -r | -o | -k)
      [ $# -ge 2 ] || usage
      case $1 in -i) KEY=$2 ;; -r) REPO=$2 ;; -o) OUT=$2 ;; -k) WRITER_KEY=${2#ed25519:} ;; esac
      shift 2
      continue
      ;;
    -*) usage ;;
  esac
  words=$((words + 1))
  case $words in 1) COMMAND=$1 ;; 2) SOURCE=$1 ;; 3) POINT=$1 ;; 4) STREAM=$1 ;; *) usage ;; esac
  shift
done
case $COMMAND:$SOURCE in list: | show:?* | stream:?* | tree:?*) ;; *) usage ;; esac
[ -n "$STREAM" ] && [ "$COMMAND" != stream ] && usage
[ -n "$KEY" ] || usage
[ -r "$KEY" ] || die 12 "cannot read the key file $KEY"
case $KEY in -*) KEY=./$KEY ;; esac
if [ -z "$REPO" ]; then
  REPO=.
  [ ! -e "$HERE/../repository.json" ] || REPO=$HERE/..
fi
[ -z "$OUT" ] || [ ! -e "$OUT" ] || die 1 "$OUT exists already; nothing was written"
for tool in age zstd awk grep base64 mktemp mkfifo od; do
  command -v $tool >/dev/null 2>&1 || die 1 "$tool is missing; on Debian: apt-get install age zstd coreutils mawk grep"
done

TMP=$(mktemp -d) || die 1 'cannot make a temporary directory'
trap 'rm -rf "$TMP"; [ -z "$PARTIAL" ] || rm -f "$PARTIAL"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# --- small tools ---------------------------------------------------------------------------------------------------------

sha256() { if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi | cut -c1-64; }
size_of() { wc -c <"$1" | tr -d ' '; }

# JSON on stdin becomes lines "path TAB value", for instance ".streams.0.name<TAB>app.db".
flatten() {
  tr '\000-\037\177' ' ' | grep -oE '"([^"\\]|\\.)*"|[][{}:,]|[^][{}:,"[:space:]]+' | awk '
    function where(  i, path) { for (i = 1; i <= depth; i++) path = path "." (kind[i] == "[" ? count[i] : name[i]); return path }
    $0 == "{" || $0 == "[" { depth++; kind[depth] = $0; count[depth] = 0; member = ($0 == "{"); next }
    $0 == "}" || $0 == "]" { depth--; member = 0; next }
    $0 == "," { if (kind[depth] == "[") count[depth]++; else member = 1; next }
    $0 == ":" { member = 0; next }
    { text = $0
      if (text ~ /^"/) { text = substr(text, 2, length(text) - 2); gsub(/\\\//, "/", text) }
      if (member) name[depth] = text; else print where() "\t" text }'
}
get() { awk -v path="$2" 'index($0, path "\t") == 1 { print substr($0, length(path) + 2); exit }' "$1"; }

# Plaintext of an age file. The epoch identities go through a pipe: they are never written to disk, nor seen in a process list.
decrypt() {
  if [ -n "$EPOCHS" ]; then
    printf '%s\n' "$EPOCHS" | age -d -i - -i "$KEY" "$1"
  else
    age -d -i "$KEY" "$1"
  fi
}
why() { grep -v 'report unexpected' "$TMP/why" 2>/dev/null | tail -1; }

# --- repository and keys -------------------------------------------------------------------------------------------------

open_repository() {
  REPOSITORY_ID=''
  if [ -r "$REPO/repository.json" ]; then
    flatten <"$REPO/repository.json" >"$TMP/repository"
    format=$(get "$TMP/repository" .format)
    REPOSITORY_ID=$(get "$TMP/repository" .id)
    case $format in
      1) ;;
      '' | *[!0-9]*) die 10 "$REPO/repository.json is not that of a bkp repository" ;;
      *) die 10 "$REPO has format $format; this script reads format 1: use the newer restore.sh, or a newer bkp" ;;
    esac
  else
    [ -d "$REPO/w" ] || die 10 "$REPO is not a bkp repository: it has no repository.json; name its directory with -r"
    say "WARNING: $REPO/repository.json is missing; going on without it"
  fi
}

list_points() { # lines "WRITER SOURCE POINT", oldest first
  for object in "$REPO"/w/*/points/*/*; do
    id=${object##*/} rest=${object%/*}
    source=${rest##*/} rest=${rest%/points/*}
    case $id in [0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]T[0-9][0-9][0-9][0-9][0-9][0-9]Z-????????) ;; *) continue ;; esac
    writer=${rest##*/}
    case $id$source in *[!a-zA-Z0-9._-]*) continue ;; esac
    case $writer in *[!0-9a-f]*) continue ;; ????????????????) ;; *) continue ;; esac
    [ ! -f "$object" ] || printf '%s %s %s\n' "$writer" "$source" "$id"
  done | sort -k3,3 -k1,2
}

unlock() {
  for file in "$REPO"/keys/epoch-*.age; do
    [ -f "$file" ] || continue
    if epoch=$(age -d -i "$KEY" "$file" 2>"$TMP/why"); then
      EPOCHS="${EPOCHS:+$EPOCHS
}$epoch"
    else
      say "WARNING: $KEY does not open ${file#"$REPO"/}: $(why)"
    fi
  done
  [ -z "$EPOCHS" ] || return 0
  while read -r w source id; do # perhaps the files in keys/ are lost: each point and stream can also be opened directly
    if age -d -i "$KEY" "$REPO/w/$w/points/$source/$id" >/dev/null 2>"$TMP/why"; then return 0; fi
  done <"$TMP/points"
  say "restore.sh: $KEY does not open this repository. It was made for:"
  if [ -r "$REPO/keys/recipients.json" ]; then
    flatten <"$REPO/keys/recipients.json" | awk -F '\t' '$1 ~ /\.(name|role|recipient)$/ { print "  " $2 }' >&2
  fi
  exit 12
}

# --- points --------------------------------------------------------------------------------------------------------------

# Checks the signature of $TMP/payload. 0: good, or cannot be checked (then it warned).
verify() { # WRITER TYPE SIGNATURE
  public=$WRITER_KEY
  rm -f "$TMP/doubt"
  [ -n "$public" ] || public=$(sed -n "s|^# *bkp-writer: *$1  *ed25519:\([A-Za-z0-9+/=]*\).*|\1|p" "$KEY" | head -1)
  if [ -z "$public" ]; then
    [ ! -r "$REPO/writers/$1.json" ] || flatten <"$REPO/writers/$1.json" >"$TMP/writer"
    [ ! -r "$TMP/writer" ] || public=$(get "$TMP/writer" .verify_key)
    public=$(printf '%s' "${public#ed25519:}" | tr -cd 'A-Za-z0-9+/=')
    [ -n "$public" ] || { REASON="no public key of writer $1 is known; give it with -k"; return 1; }
    : >"$TMP/doubt"
    if [ ! -e "$TMP/warned.$1" ]; then
      say "WARNING: the key of writer $1 comes from the repository itself, so whoever can write there could have forged its points."
      say "WARNING: compare with your records, or give it with -k:  ed25519:$public"
      : >"$TMP/warned.$1"
    fi
  fi
  case $(openssl version 2>/dev/null) in
    'OpenSSL '[3-9]*) ;;
    *)
      [ -e "$TMP/warned" ] || say 'WARNING: SIGNATURES WERE NOT CHECKED: this needs OpenSSL 3 or newer.'
      : >"$TMP/warned"
      : >"$TMP/doubt"
      return 0
      ;;
  esac
  { printf 'DSSEv1 %d %s %d ' "${#2}" "$2" "$(size_of "$TMP/payload")"; cat "$TMP/payload"; } >"$TMP/signed"
  { printf '\060\052\060\005\006\003\053\145\160\003\041\000'; printf '%s' "$public" | base64 -d; } >"$TMP/public" 2>/dev/null
  printf '%s' "$3" | base64 -d >"$TMP/signature" 2>/dev/null
  openssl pkeyutl -verify -pubin -keyform DER -inkey "$TMP/public" -rawin -in "$TMP/signed" -sigfile "$TMP/signature" >/dev/null 2>&1 && return 0
  REASON="it is not signed by writer $1 (ed25519:$public): it is forged, or the key is not that of this writer"
  return 1
}

# Opens one point: $TMP/payload is its JSON, $TMP/point the same in lines. Otherwise $REASON says what is wrong.
read_point() { # WRITER SOURCE POINT
  object=w/$1/points/$2/$3
  decrypt "$REPO/$object" >"$TMP/plain" 2>"$TMP/why" || { REASON="cannot decrypt $object: $(why)"; return 1; }
  [ "$(tail -c 4 "$TMP/plain" | od -An -tx1 | tr -d ' \n')" = b1ea928f ] || { REASON="$object is cut: it has no seek table"; return 1; }
  zstd -dcq <"$TMP/plain" >"$TMP/envelope" 2>"$TMP/why" || { REASON="cannot decode $object: $(why)"; return 1; }
  flatten <"$TMP/envelope" >"$TMP/lines"
  type=$(get "$TMP/lines" .payloadType)
  [ "$type" = application/vnd.bkp.point+json ] || { REASON="$object is not a point but '$type'"; return 1; }
  get "$TMP/lines" .payload | base64 -d >"$TMP/payload" 2>/dev/null || { REASON="$object: the payload is not base64"; return 1; }
  verify "$1" "$type" "$(get "$TMP/lines" .signatures.0.sig)" || { REASON="$object: $REASON"; return 1; }
  flatten <"$TMP/payload" >"$TMP/point"
  format=$(get "$TMP/point" .format)
  [ "$format" = 1 ] || { REASON="$object has format $format; this script reads format 1: use a newer one"; return 1; }
  says="$(get "$TMP/point" .writer) $(get "$TMP/point" .source) $(get "$TMP/point" .point)"
  [ "$says" = "$1 $2 $3" ] || { REASON="$object says it is another point: $says"; return 1; }
  says=$(get "$TMP/point" .repository)
  [ "$says" = "${REPOSITORY_ID:-$says}" ] || { REASON="$object belongs to another repository: $says"; return 1; }
}

# Is the pinned object there, with its size? With "whole": are its bytes what they were?
check_pin() { # PATH-OF-PIN [whole]
  key=$(get "$TMP/point" "$1.key") size=$(get "$TMP/point" "$1.size")
  case $key in w/*..*) key='' ;; w/*) ;; *) key='' ;; esac
  [ -n "$key" ] || { REASON="$1 names no object of this repository"; return 1; }
  [ -f "$REPO/$key" ] || { REASON="$key is missing"; return 1; }
  [ "$(size_of "$REPO/$key")" = "$size" ] || { REASON="$key has $(size_of "$REPO/$key") bytes instead of $size"; return 1; }
  [ "${2:-}" = whole ] || return 0
  [ "$(sha256 <"$REPO/$key")" = "$(get "$TMP/point" "$1.sha256")" ] || { REASON="$key is damaged: its SHA-256 is not the one the point pins"; return 1; }
}

pins() { awk -F '\t' '$1 ~ /^\.(streams\.[0-9]+\.(objects\.[0-9]+|index)|tree\.index|body)\.key$/ { sub(/\.key$/, "", $1); print $1 }' "$TMP/point"; }
stream_names() { awk -F '\t' '$1 ~ /^\.streams\.[0-9]+\.name$/ { printf "%s%s", gap, $2; gap = " " }' "$TMP/point"; }
has_tree() { grep -q '^\.tree\.' "$TMP/point"; }
in_packs() { grep -q -e '^\.tree\.index\.' -e '^\.streams\.[0-9]*\.index\.' "$TMP/point"; }

list() {
  status=0 trees=''
  while read -r w source id; do
    if ! read_point "$w" "$source" "$id"; then
      printf '%s  %s/%s  UNREADABLE: %s\n' "$id" "$w" "$source" "$REASON"
      status=4
      continue
    fi
    state='' content=$(stream_names)
    if has_tree; then content="$content${content:+ }(tree)"; fi
    if in_packs; then trees=yes; fi
    for pin in $(pins); do
      check_pin "$pin" || { state="  DAMAGED: $REASON" status=4; break; }
    done
    printf '%s  %s/%s  no. %s  %s bytes  %s%s\n' "$id" "$w" "$source" "$(get "$TMP/point" .sequence)" "$(get "$TMP/point" .bytes)" "${content:-empty}" "$state"
  done <"$TMP/points"
  [ -z "$trees" ] || say 'The packs of trees and of deduplicated streams were not looked at; restore.py list does that.'
  return $status
}

others() {
  say 'The points of this source:'
  awk -v s="$SOURCE" '$2 == s || $1 "/" $2 == s { print "  " $3 "  " $1 "/" $2 }' "$TMP/points" >&2
}

select_point() { # sets W, SOURCE, POINT and opens the point
  writers=$(awk -v s="$SOURCE" '$2 == s || $1 "/" $2 == s { print $1 "/" $2 }' "$TMP/points" | sort -u)
  [ -n "$writers" ] || die 1 "there is no point of $SOURCE in $REPO; sources with points: $(awk '{ print $1 "/" $2 }' "$TMP/points" | sort -u | tr '\n' ' ')"
  # shellcheck disable=SC2086 # split into words: neither part can hold a space
  set -- $writers
  [ $# = 1 ] || die 2 "several writers have a source $SOURCE; name one of: $writers"
  W=${1%%/*}
  SOURCE=${1#*/}
  [ "$POINT" != latest ] || POINT=$(awk -v w="$W" -v s="$SOURCE" '$1 == w && $2 == s { id = $3 } END { print id }' "$TMP/points")
  grep -qxF "$W $SOURCE $POINT" "$TMP/points" || { others; die 1 "$SOURCE has no point $POINT"; }
  read_point "$W" "$SOURCE" "$POINT" || { others; die 4 "$REASON"; }
  say "Point $POINT of $W/$SOURCE: data as of $(get "$TMP/point" .consistent_at)"
}

# --- output --------------------------------------------------------------------------------------------------------------

decode_stream() { # NUMBER; data to stdout
  codec=$(get "$TMP/point" ".streams.$1.codec")
  case $codec in
    zstd) decoder='zstd -dcq' ;;
    gzip) decoder='gzip -dc' ;;
    *) say "restore.sh: unknown codec $codec"; return 1 ;;
  esac
  object=0
  while key=$(get "$TMP/point" ".streams.$1.objects.$object.key") && [ -n "$key" ]; do
    { decrypt "$REPO/$key" || : >"$TMP/failed"; } | { $decoder || : >"$TMP/failed"; }
    if [ -e "$TMP/failed" ]; then return 1; fi
    object=$((object + 1))
  done
}

stream() {
  names=$(stream_names)
  if [ -z "$names" ]; then
    if has_tree; then die 1 "this point is a tree: use the command tree"; else die 1 'this point has no streams'; fi
  fi
  count=$(awk -F '\t' '$1 ~ /^\.streams\.[0-9]+\.name$/' "$TMP/point" | wc -l)
  [ -n "$STREAM" ] || [ "$count" -eq 1 ] || die 2 "which stream? This point has: $names"
  number=$(awk -F '\t' -v n="$STREAM" '$1 ~ /^\.streams\.[0-9]+\.name$/ && (n == "" || $2 == n) { split($1, part, "."); print part[3]; exit }' "$TMP/point")
  [ -n "$number" ] || die 1 "this point has no stream $STREAM; it has: $names"
  if [ -n "$(get "$TMP/point" ".streams.$number.index.key")" ]; then
    by_python 'a deduplicated stream' stream "$(get "$TMP/point" ".streams.$number.name")"
  fi
  for pin in $(pins | grep "^\.streams\.$number\."); do
    check_pin "$pin" whole || { others; die 4 "$REASON. Nothing was written. This makes stream $(get "$TMP/point" ".streams.$number.name") of point $POINT useless"; }
  done
  if [ -n "$OUT" ]; then
    PARTIAL=$OUT.partial.$$
    (: >"$PARTIAL") || die 1 "cannot write $PARTIAL"
    exec 3>"$PARTIAL"
  else
    [ ! -t 1 ] || die 2 'this is a terminal: write to a file with > FILE or -o FILE'
    exec 3>&1
  fi
  mkfifo "$TMP/hashed" "$TMP/counted" || die 1 'cannot make a pipe'
  sha256 <"$TMP/hashed" >"$TMP/hash" &
  wc -c <"$TMP/counted" | tr -d ' ' >"$TMP/count" &
  { decode_stream "$number" || : >"$TMP/failed"; } | tee "$TMP/hashed" "$TMP/counted" >&3 || : >"$TMP/failed"
  exec 3>&-
  wait
  [ ! -e "$TMP/failed" ] || die 1 'the data could not be decoded or written to the end: DO NOT USE WHAT WAS WRITTEN'
  [ "$(cat "$TMP/hash" "$TMP/count")" = "$(get "$TMP/point" ".streams.$number.sha256"; get "$TMP/point" ".streams.$number.bytes")" ] ||
    die 4 'the data is not what the point says: DO NOT USE WHAT WAS WRITTEN'
  if [ -n "$OUT" ]; then
    mv "$PARTIAL" "$OUT" || die 1 "cannot write $OUT"
    PARTIAL=''
  fi
  if [ -e "$TMP/doubt" ]; then
    say "Complete, $(cat "$TMP/count") bytes, but NOT VERIFIED: see the warnings above"
  else
    say "Complete and verified: $(cat "$TMP/count") bytes"
  fi
}

by_python() { # WHAT COMMAND [STREAM]
  command -v python3 >/dev/null 2>&1 || die 1 "$1 needs python3 (3.8 or newer); on Debian: apt-get install python3"
  shift
  for script in "$HERE/restore.py" "$REPO/restore/restore.py"; do
    [ -r "$script" ] || continue
    python3 "$script" -i "$KEY" -r "$REPO" ${WRITER_KEY:+-k "ed25519:$WRITER_KEY"} ${OUT:+-o "$OUT"} "$1" "$SOURCE" "$POINT" ${2:+"$2"}
    exit $?
  done
  die 1 'restore.py is missing: it belongs beside this script'
}

show() {
  cat "$TMP/payload"
  echo
  check_pin .body whole || die 4 "$REASON"
  decrypt "$REPO/$key" 2>"$TMP/why" >"$TMP/plain" || die 4 "cannot decrypt $key: $(why)"
  zstd -dcq <"$TMP/plain" >"$TMP/body" || die 4 "cannot decode $key"
  sed 's/, *"chunk_id_key" *: *"[^"]*"//; s/"chunk_id_key" *: *"[^"]*" *,//' "$TMP/body"
  echo
}

[ "$COMMAND" != tree ] || by_python 'a tree' tree
open_repository
list_points >"$TMP/points"
[ -s "$TMP/points" ] || die 1 "there are no points in $REPO: no backup was ever completed, or this copy is not complete"
unlock
case $COMMAND in
  list) list ;;
  show) select_point && show ;;
  stream) select_point && stream ;;
esac
