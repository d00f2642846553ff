#!/bin/sh
# Registers the clients' public keys; a key that is known already is left as it is.
@header
for key in "$here"/keys/*.pub; do
    client=$(basename "$key" .pub)
    if answer=$("$here/flower.sh" supernode register "$key" "@name" --name "$client" 2>&1); then
        echo "$client: registered"
    elif printf '%s' "$answer" | tr '\n' ' ' | grep -qi 'already'; then
        echo "$client: is registered already"
    else
        printf '%s: %s\n' "$client" "$answer" >&2
        exit 1
    fi
done
