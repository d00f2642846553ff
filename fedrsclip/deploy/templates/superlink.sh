#!/bin/sh
# Flower's SuperLink of the federation @name. It listens on this machine alone: whoever reaches its
# port may submit code that runs on this host.
@header
mkdir -p "$here/state"
cd "$here/state"
# Gives back the space of messages that are gone: SQLite keeps it.
[ ! -f superlink.db ] ||
    python3 -c 'import sqlite3; sqlite3.connect("superlink.db").execute("VACUUM")' ||
    echo "state/superlink.db was not made smaller"
exec flower-superlink @tls \
    --host 127.0.0.1 --port @superlink_port \
    --isolation process --superexec-auth-secret-file "$here/secret/superexec" \
    --database "$here/state/superlink.db" \
    --disable-runtime-dependency-installation
