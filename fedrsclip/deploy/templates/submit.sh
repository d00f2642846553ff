#!/bin/sh
# Submits the run that run.toml describes, follows its log and exits with its true status: 0 only if
# Flower says finished:completed. `flwr run` itself exits with 0 also when a run fails.
#
# A run that fails, for example because the server was restarted, goes on at its last checkpoint, at
# most RESTARTS times (admin.env). One that somebody stops (`./flower.sh stop`) does not.
@header
flower="$here/flower.sh"
value_of() { tr -d '\n' | sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p"; }

# Each look costs two seconds of a CPU.
PAUSE=${PAUSE:-15}
# Seconds without an answer, after which nobody is restarting the SuperLink any more.
PATIENCE=${PATIENCE:-600}

settings=$(sed -n 's/^hydra-overrides = "\(.*\)"$/\1/p' "$here/run.toml")
case " $settings" in
*" run.name="*) ;;
*) settings="$settings run.name=@name-$(date +%Y%m%d-%H%M%S)" ;;
esac

# Sets status: what Flower says of the run; empty: no answer. Gives up if there is none for too long.
look() {
    status=$("$flower" ls "@name" --run-id "$run" --format json | value_of status) || status=
    now=$(date +%s)
    [ -z "$status" ] || heard=$now
    if [ $((now - heard)) -ge "$PATIENCE" ]; then
        printf 'The SuperLink has not answered for %s s: start it (superlink.sh), or the way to it.\n' \
            $((now - heard)) >&2
        printf 'If the run %s is still running then: ./flower.sh log %s "@name"\n' "$run" "$run" >&2
        exit 1
    fi
}

# Submits, follows and waits; the last status is how the run ended.
carry_out() {
    printf 'hydra-overrides = "%s"\n' "$settings $1" >"$here/submitted.toml"
    answer=$("$flower" run "$here/app" "@name" -c "$here/submitted.toml" --format json) || true
    run=$(printf '%s' "$answer" | value_of run-id)
    case $run in
    "" | null)
        printf 'Flower took no run: %s\n' "$answer" >&2
        exit 1
        ;;
    esac
    echo "run $run"
    heard=$(date +%s)
    "$flower" log "$run" "@name" || true
    look
    # The log ends with the run, or with the SuperLink: then the run goes on when that is back.
    while :; do
        case $status in
        finished:*) break ;;
        esac
        sleep "$PAUSE"
        look
        case $status in
        "" | finished:*) ;;
        *)
            echo "the SuperLink was away; the log again, from its start:"
            "$flower" log "$run" "@name" || true
            look
            ;;
        esac
    done
    echo "run $run: $status"
}

carry_out ""
restarts=0
while [ "$status" = finished:failed ] && [ "$restarts" -lt "${RESTARTS:-3}" ]; do
    restarts=$((restarts + 1))
    echo "going on at the last checkpoint: $restarts of at most ${RESTARTS:-3} times"
    sleep "$PAUSE"
    carry_out run.resume=true
done
[ "$status" = finished:completed ]
