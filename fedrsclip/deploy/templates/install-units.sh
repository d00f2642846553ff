#!/bin/sh
# Writes the systemd units with this folder and its owner filled in.
# Usage: ./install-units.sh [folder of the units]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
target=${1:-/etc/systemd/system}
case $here in
*[!A-Za-z0-9/._-]*)
    echo "$here: move this folder to a path of letters, digits, '.', '_', '-' and '/'" >&2
    exit 1
    ;;
esac
owner=$(ls -ld -- "$here" | awk '{print $3}')
for unit in "$here"/systemd/*.service; do
    sed -e "s|__FOLDER__|$here|g" -e "s|__USER__|$owner|g" "$unit" >"$target/${unit##*/}"
    echo "${unit##*/}"
done
echo "next: systemctl daemon-reload && systemctl enable --now <each of these units>"
