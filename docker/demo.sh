#!/bin/sh
# docker/demo.sh up [overrides]   builds, starts, submits a run, prints its table; exits with its true status
# docker/demo.sh down             takes everything down; the volumes stay, and with them the private prompts
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose -f "$here/compose.yaml" "$@"
    else
        docker-compose -f "$here/compose.yaml" "$@"
    fi
}

case ${1:-} in
up)
    shift
    compose build
    compose up -d
    # Not `up --exit-code-from`, which would end everything when one container is restarted.
    if compose run --rm -T submit "$@"; then
        echo "still running, for further runs: docker/demo.sh down takes it down"
    else
        status=$?
        echo "the run failed: see 'docker compose -f docker/compose.yaml logs'" >&2
        exit "$status"
    fi
    ;;
down)
    COMPOSE_PROFILES=cpu,gpu compose down --remove-orphans
    ;;
*)
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
    ;;
esac
