#!/bin/sh
# Flower's SuperNode of the client @client. It dials the server; nothing dials it from outside.
# While the server does not know its key it says so and waits. It ends if this machine's clock is
# wrong, which the line before says, or if it is stuck: `start` starts it again.
@header
@known
fedrsclip clock >/dev/null || true
cd "$FLWR_HOME"
exec fedrsclip-supernode @tls \
    --superlink @server \
    --isolation process --superexec-auth-secret-file "$here/secret/superexec" \
    --host 127.0.0.1 --port "$SUPERNODE_PORT" \
    --node-config 'partition-id=@partition num-partitions=@partitions client-name="@client"'
