#!/bin/sh
# Flower's SuperNode of the client @client. It dials the server; nothing dials it from outside.
# Restarted within 60 seconds it may end with code 2004, because the server still waits for its
# predecessor: start it again until it stays.
@header
cd "$FLWR_HOME"
exec flower-supernode @tls \
    --superlink @server \
    --isolation process --superexec-auth-secret-file "$here/secret/superexec" \
    --host 127.0.0.1 --port "$SUPERNODE_PORT" \
    --node-config 'partition-id=@partition num-partitions=@partitions client-name="@client"'
