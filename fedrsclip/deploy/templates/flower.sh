#!/bin/sh
# Flower's command with the connection to this federation, e.g.: ./flower.sh supernode list
# The SuperLink listens on the server's loopback only. From another machine:
#   ssh -N -L @superlink_port:127.0.0.1:@superlink_port <server>
@header
# Written again each time: Flower wants the certificate's absolute path.
new="$FLWR_HOME/config.toml.$$"
cat >"$new" <<END
[superlink]
default = "@name"

[superlink."@name"]
address = "127.0.0.1:@superlink_port"
@connection
END
mv "$new" "$FLWR_HOME/config.toml"
if [ "$*" = "supernode list" ]; then
    exec fedrsclip deploy nodes connection="@name" # with the names of the clients
fi
exec flwr "$@@"
