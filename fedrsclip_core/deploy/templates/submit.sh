#!/bin/sh
# Submits the run that run.toml describes, follows its log and exits with its true status: 0 only if
# Flower says finished:completed. `flwr run` itself exits with 0 also when a run fails.
@header
flower="$here/flower.sh"
value_of() { tr -d '\n' | sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p"; }

answer=$("$flower" run "$here/app" "@name" -c "$here/run.toml" --format json)
run=$(printf '%s' "$answer" | value_of run-id)
case $run in
"" | null)
    printf 'Flower took no run: %s\n' "$answer" >&2
    exit 1
    ;;
esac
echo "run $run"
# The log ends with the run, or with the SuperLink: then the run may go on without it.
"$flower" log "$run" "@name" || true
while :; do
    # No answer: the SuperLink is being restarted.
    status=$("$flower" ls "@name" --run-id "$run" --format json | value_of status) || status=
    case $status in
    finished:completed)
        echo "run $run: $status"
        exit 0
        ;;
    finished:*)
        echo "run $run: $status" >&2
        exit 1
        ;;
    esac
    sleep 5
done
