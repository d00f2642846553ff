#!/bin/sh
# Flower's SuperNode of the client @client. It dials the server; nothing dials it from outside.
# It ends with exit code 305 (2004 at the server) if its key is not registered, and also if it is
# restarted within 60 seconds, while its predecessor still counts as online: start it again.
# It ends so, too, if this machine's clock is wrong: then the line before says that.
@header
@known
fedrsclip clock >/dev/null || true
cd "$FLWR_HOME"
exec flower-supernode @tls \
    --superlink @server \
    --isolation process --superexec-auth-secret-file "$here/secret/superexec" \
    --host 127.0.0.1 --port "$SUPERNODE_PORT" \
    --node-config 'partition-id=@partition num-partitions=@partitions client-name="@client"'
