#!/bin/sh
# Verifies this bundle without bkp. Needs: openssl 3, jq, sha256sum, base64, and the tools of every system.
#
#   sh verify.sh                          with the key in the bundle: it all belongs together, whoever made it
#   sh verify.sh KEY.pem                  with the writer's key from elsewhere: it is all from that host
#   sh verify.sh KEY.pem TSA.pem          and time stamps, with the certificate of the authority that made them
#   EVERY_RECORD=1 sh verify.sh …         and the hash of each single record, which takes a while
#   UNSIGNED=1 sh verify.sh …             a bundle that its host did not sign, such as an operator makes of what is sealed
#
# Ends with 0 when everything fits, with 4 when something does not, and with 3 when nobody said whose key it is.
set -eu
here=$(dirname "$0")
key=${1:-$(ls "$here"/keys/*.pem | head -n 1)}
authority=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
wrong() { echo "WRONG  $*"; bad=1; }

# What is signed: "DSSEv1", the type and the content, each with its length in front.
signed() { printf 'DSSEv1 %d %s %d ' "${#1}" "$1" "$(wc -c < "$2" | tr -d ' ')"; cat "$2"; }

# check TYPE FILE SIGNATURE: the signature, in base64, is of that file by the key.
check() {
    signed "$1" "$2" > "$work/signed"
    printf %s "$3" | base64 -d > "$work/signature" 2> /dev/null || return 1
    openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in "$work/signed" -sigfile "$work/signature" > "$work/said" 2>&1
}

# open ENVELOPE TYPE: the content of a signed envelope, into $work/content.
open_envelope() {
    [ "$(jq -r .payloadType "$1")" = "$2" ] || return 1
    jq -r .payload "$1" | base64 -d > "$work/content"
    check "$2" "$work/content" "$(jq -r '.signatures[0].sig' "$1")"
}

# The hash of a record is that of its line up to, and without, the check at its end.
hash_of() { printf %s "${1%,\"check\":*}" | sha256sum | cut -d ' ' -f 1; }
number_of() { rest=${1#"{\"seq\":"}; printf %s "${rest%%,*}"; }
prev_of() { rest=${1#*\"prev\":\"}; printf %s "${rest%%\"*}"; }

# Where it begins and ends, and what belongs to it, is the word of the host, or nobody's.
if [ -f "$here/bundle.sig.json" ]; then
    check application/vnd.bkp.bundle+json "$here/bundle.json" "$(jq -r .sig "$here/bundle.sig.json")" ||
        wrong "bundle.json is not signed by this key"
elif [ "${UNSIGNED:-}" = 1 ]; then
    echo "bundle.json is not signed: that nothing is missing at the beginning and the end is shown by anchors alone"
else
    wrong "bundle.json is not signed: records may be missing at the beginning or the end (to take it nevertheless: UNSIGNED=1)"
fi
jq -r '.files // {} | to_entries[] | "\(.value) \(.key)"' "$here/bundle.json" > "$work/files"
while read -r sum name; do
    [ "$(sha256sum < "$here/$name" 2> /dev/null | cut -d ' ' -f 1)" = "$sum" ] || wrong "$name was taken out, or is another one"
done < "$work/files"
next=$(jq -r .from "$here/bundle.json")
prev=
total=0
for file in "$here"/journal/*.jsonl; do
    name=$(basename "$file")
    check application/vnd.bkp.journal+jsonl "$file" "$(jq -r .sig "$here/seals/$name.json")" ||
        wrong "$name: its records are not those that were sealed"
    first=$(head -n 1 "$file")
    last=$(tail -n 1 "$file")
    lines=$(wc -l < "$file" | tr -d ' ')
    [ "$(number_of "$first")" = "$next" ] || wrong "$name begins with record $(number_of "$first") and not with $next"
    [ -z "$prev" ] || [ "$(prev_of "$first")" = "$prev" ] || wrong "$name does not go on from the file before it"
    if [ "${EVERY_RECORD:-}" = 1 ]; then
        expected=$next before=$prev
        while IFS= read -r line; do
            [ "$(number_of "$line")" = "$expected" ] || wrong "$name: record $expected is not where it should be"
            [ -z "$before" ] || [ "$(prev_of "$line")" = "$before" ] || wrong "$name: record $expected does not go on from the one before it"
            before=$(hash_of "$line")
            expected=$(($(number_of "$line") + 1))
        done < "$file"
    fi
    [ $((next + lines - 1)) = "$(number_of "$last")" ] || wrong "$name: records are missing or too many"
    next=$(($(number_of "$last") + 1))
    prev=$(hash_of "$last")
    total=$((total + lines))
done
[ "$((next - 1)) $prev" = "$(jq -r '"\(.to) \(.hash)"' "$here/bundle.json")" ] ||
    wrong "the journal ends with record $((next - 1)), and the bundle was made up to record $(jq -r .to "$here/bundle.json")"
echo "$total records, the last one is $((next - 1)) with hash $prev"

for head in "$here"/anchors/*.json; do
    [ -f "$head" ] || continue
    name=$(basename "$head" .json)
    if ! open_envelope "$head" application/vnd.bkp.head+json; then
        wrong "anchor $name is not signed by this key"
        continue
    fi
    seq=$(jq -r .seq "$work/content")
    line=$(grep -h "^{\"seq\":$seq," "$here"/journal/*.jsonl | head -n 1)
    if [ "$(hash_of "$line")" = "$(jq -r .hash "$work/content")" ]; then
        echo "anchor of record $seq fits, signed $(jq -r .at "$work/content")"
    else
        wrong "anchor of record $seq: the record is gone, or another one"
    fi
    if [ -f "$here/anchors/$name.tsr" ] && [ -n "$authority" ]; then
        if openssl ts -verify -data "$head" -in "$here/anchors/$name.tsr" -CAfile "$authority" > "$work/said" 2>&1; then
            echo "  time stamp: $(openssl ts -reply -in "$here/anchors/$name.tsr" -text 2> /dev/null | sed -n 's/^Time stamp: //p')"
        else
            wrong "the time stamp of record $seq is not of this anchor, or not by this authority"
        fi
    fi
done

for statement in "$here"/rehearsals/*.json; do
    [ -f "$statement" ] || continue
    name=$(basename "$statement" .json)
    if ! open_envelope "$statement" application/vnd.in-toto+json; then
        wrong "rehearsal $name is not signed by this key"
        continue
    fi
    # It is about the record that its name says, and that record is in this journal.
    seq=$(printf %s "$name" | sed 's/^0*//')
    subject="journal $(jq -r .journal "$here/bundle.json") record $seq"
    hash=$(jq -r --arg name "$subject" '.subject[] | select(.name == $name) | .digest.sha256' "$work/content")
    line=$(grep -h "^{\"seq\":$seq," "$here"/journal/*.jsonl | head -n 1)
    if [ -n "$line" ] && [ "$(hash_of "$line")" = "$hash" ]; then
        jq -r --arg seq "$seq" '"rehearsal of \(.subject[0].name), record \($seq): \(.predicate.result)"' "$work/content"
    else
        wrong "rehearsal $name is about another record, or of another journal"
    fi
done

[ "$bad" = 0 ] || exit 4
if [ -z "${1:-}" ]; then
    echo "it belongs together; whose key it is, only you can tell: sh verify.sh KEY.pem"
    exit 3
fi
echo "everything fits"
