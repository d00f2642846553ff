#!/bin/sh
# Makes this host's `start` a service of systemd, run by the owner of this folder, and starts it.
# Usage: sudo ./install-units.sh [other folder for the unit, which is then only written]
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
    name=${unit##*/}
    sed -e "s|__FOLDER__|$here|g" -e "s|__USER__|$owner|g" "$unit" >"$target/$name"
    if [ $# -eq 0 ]; then
        systemctl daemon-reload
        systemctl enable --now "$name"
        echo "$name runs as $owner; what it waits for: journalctl -fu $name"
    else
        echo "$name"
    fi
done
