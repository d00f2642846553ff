#!/bin/sh
# Starts a ClientApp of the client @client for each message: the process that sees the images.
# It imports what they need once and forks. It speaks to this machine's own SuperNode, so --insecure
# crosses no network.
@header
export FEDRSCLIP_POLICY="$here/site.yaml"
@checks
# Seconds between two looks for a message; they cross no network.
export FLWR_SUPEREXEC_TASK_POLL_INTERVAL=0.25
cd "$FLWR_HOME"
exec fedrsclip-superexec --insecure \
    --runtime-api-address "127.0.0.1:$SUPERNODE_PORT" \
    --superexec-auth-secret-file "$here/secret/superexec"
