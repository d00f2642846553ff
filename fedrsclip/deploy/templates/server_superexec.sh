#!/bin/sh
# Starts the ServerApp of each run; separate from the SuperLink, so that a run survives its restart.
@header
@registry
cd "$FLWR_HOME"
exec flower-superexec @tls \
    --runtime-api-address 127.0.0.1:@superlink_port \
    --superexec-auth-secret-file "$here/secret/superexec"
