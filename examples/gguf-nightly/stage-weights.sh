#!/bin/sh
# Stages the weights of the nightly contract from WEIGHTS (a folder of this machine, a mount, a mirror that was synchronized):
#
#     WEIGHTS=/srv/weights ./stage-weights.sh models weights.sha256
#
# weights.sha256 has the lines of `sha256sum`, names below the folder. A file that is there and right is left alone; one that is
# not the pinned one is an error, and nothing of it stays. No network is used: what fetches the weights runs before this.
set -eu
[ $# -eq 2 ] || { echo "usage: WEIGHTS=FOLDER stage-weights.sh OUT SHA256SUMS" >&2; exit 2; }
: "${WEIGHTS:?name the folder that holds the weights}"
out=$1 sums=$2
[ -s "$sums" ] || { echo "$sums: lists no file, so nothing would be pinned" >&2; exit 2; }
mkdir -p "$out"
while read -r sum name; do
    name=${name#\*}
    case $name in /* | *..*) echo "$sums: $name leaves the folder" >&2; exit 2 ;; esac
    if [ -f "$out/$name" ] && echo "$sum  $out/$name" | sha256sum --check --status; then
        echo "$name: there already"
        continue
    fi
    [ -f "$WEIGHTS/$name" ] || { echo "$WEIGHTS/$name: not there" >&2; exit 1; }
    mkdir -p "$(dirname "$out/$name")"
    cp "$WEIGHTS/$name" "$out/$name.part"
    if ! echo "$sum  $out/$name.part" | sha256sum --check --status; then
        rm -f "$out/$name.part"
        echo "$name: is not the pinned file ($sum)" >&2
        exit 1
    fi
    mv "$out/$name.part" "$out/$name"
    echo "$name: staged"
done < "$sums"
