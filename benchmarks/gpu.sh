#!/usr/bin/env bash
# What a CUDA device does, in eight minutes: tests, steps, encoding, predict, clients that share it.
#
#     benchmarks/gpu.sh [OUT.json]
#
# PYTHON is the Python that has fedrsclip with its [dev] extra and torch for CUDA. A part that fails is
# named in the file, with the end of its log, and the exit status is 1; the other parts are there. What
# has not begun after eight minutes is left out, what has is ended, so the last parts matter least.
set -uo pipefail
cd "$(dirname "$0")/.."

out=$(realpath -m "${1:-build/bench/gpu.json}")
python=${PYTHON:-python}
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
export FEDRSCLIP_HOME=$parts/home FLWR_HOME=$parts/flwr TORCHINDUCTOR_CACHE_DIR=$parts/inductor
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1

"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
    { echo "torch sees no CUDA device: nothing to measure" >&2; exit 1; }

# part NAME SECONDS COMMAND...: its log is NAME.log, its figures NAME.json, its exit status NAME.rc
# and the seconds that it took NAME.s.
part() {
    local name=$1 limit=$2 left=$((480 - SECONDS)) begun=$SECONDS
    shift 2
    echo "$name"
    if ((left < 10)); then
        echo "no time was left" >"$parts/$name.log"
        echo 124 >"$parts/$name.rc"
    else
        timeout -k 5 $((limit < left ? limit : left)) "$@" >"$parts/$name.log" 2>&1
        echo $? >"$parts/$name.rc"
    fi
    echo $((SECONDS - begun)) >"$parts/$name.s"
    grep -v -e '%|' -e USDT: "$parts/$name.log" | tail -n 30
}
bench() {
    local name=$1 limit=$2 module=$3
    shift 3
    part "$name" "$limit" "$python" -m "benchmarks.$module" "$@" --json "$parts/$name.json"
}
# clients NAME ENGINE OVERRIDE...: a simulation of 16 clients, and the card's memory meanwhile.
clients() {
    local name=simulation_$1 engine=$2
    shift 2
    nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits --loop=1 >"$parts/$name.mib" &
    local watch=$!
    bench "$name" 60 simulation model=local "model.path=$parts/clip" method=fedrsclip "$@" \
        --clients 16 --rounds 3 --drivers "$engine"
    kill "$watch"
}
shared=(federation.device=cuda federation.client_gpus=0.25)

# By their names: to look for the mark in all tests takes longer than these do.
mapfile -t tests < <(grep -rl --include='test_*.py' 'mark\.gpu' tests)
part tests 100 "$python" -m pytest -q -p no:cacheprovider -m gpu "${tests[@]}"
bench features 70 features --images 1024 --device cuda --repeats 1
"$python" -c 'import sys; from pathlib import Path; from benchmarks.inputs import save_random_clip
save_random_clip(Path(sys.argv[1]))' "$parts/clip" 2>/dev/null
clients shared local "${shared[@]}"
bench card_memory 90 card_memory
bench predict 50 predict --device cuda --clip random --images 1024 --repeats 2
clients alone local federation.device=cuda federation.client_gpus=1
clients crowd local federation.device=cuda federation.client_gpus=0.0625
clients cpu local federation.device=cpu
bench step 100 step_time --device cuda --repeats 3
bench step_of_50 60 step_time --device cuda --classes 45 --steps 50 --repeats 1 --ours-per-plain 1
bench offset_step 40 offset_step --device cuda --repeats 3
clients flower_shared flower "${shared[@]}"
clients flower_cpu flower federation.device=cpu
for mode in default reduce-overhead; do
    bench "step_$mode" 100 step_time --device cuda --classes 21 --dtypes float32 --compile "$mode" \
        --repeats 1
done

"$python" - "$parts" "$out" <<'PY'
import json, sys
from pathlib import Path
from benchmarks.measuring import facts
from fedrsclip_core.runs.fileio import write_json

parts, out = Path(sys.argv[1]), Path(sys.argv[2])
found, failed = {}, []
for status in sorted(parts.glob("*.rc")):
    name, code = status.stem, int(status.read_text())
    log, figures = status.with_suffix(".log"), status.with_suffix(".json")
    found[name] = {"exit_status": code, "seconds": int(status.with_suffix(".s").read_text())}
    if figures.exists():
        found[name] |= json.loads(figures.read_text())
    memory = status.with_suffix(".mib")
    if memory.exists():
        found[name]["peak GPU memory, MiB"] = max(map(int, memory.read_text().split()), default=0)
    if code or not figures.exists():
        found[name]["log"] = log.read_text(errors="replace").splitlines()[-40:]
    if code:
        failed.append(name)
out.parent.mkdir(parents=True, exist_ok=True)
write_json(out, {"machine": facts(), "parts": found})
print(f"figures: {out}")
sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
PY
