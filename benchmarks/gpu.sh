#!/usr/bin/env bash
# What a CUDA device does, in about eight minutes: tests, steps, encoding, clients that share it.
#
#     benchmarks/gpu.sh [OUT.json]
#
# PYTHON is the Python that has fedrsclip with its [dev] extra and torch for CUDA. A part that fails is
# named in the file, with the end of its log, and the exit status is 1; the other parts are there.
set -uo pipefail
cd "$(dirname "$0")/.."

out=$(realpath -m "${1:-build/bench/gpu.json}")
python=${PYTHON:-python}
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
export FEDRSCLIP_HOME=$parts/home FLWR_HOME=$parts/flwr FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1

"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
    { echo "torch sees no CUDA device: nothing to measure" >&2; exit 1; }

# part NAME SECONDS COMMAND...: its log is NAME.log, its figures NAME.json, its exit status NAME.rc.
part() {
    local name=$1 limit=$2
    shift 2
    echo "$name"
    timeout "$limit" "$@" >"$parts/$name.log" 2>&1
    echo $? >"$parts/$name.rc"
    tail -n 40 "$parts/$name.log"
}
bench() {
    local name=$1 limit=$2 module=$3
    shift 3
    part "$name" "$limit" "$python" -m "benchmarks.$module" "$@" --json "$parts/$name.json"
}
clients() {
    local name=simulation_$1
    shift
    nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits --loop=1 >"$parts/$name.mib" &
    local watch=$!
    bench "$name" 90 simulation model=local "model.path=$parts/clip" method=fedrsclip "$@" \
        --clients 16 --rounds 3 --drivers ray
    kill "$watch"
}

part tests 90 "$python" -m pytest -q -p no:cacheprovider -m gpu tests/unit
bench step 90 step_time --device cuda --repeats 3
bench features 90 features --images 1024 --device cuda --repeats 1
bench offset_step 60 offset_step --device cuda --repeats 3
"$python" -c 'import sys; from pathlib import Path; from benchmarks.inputs import save_random_clip
save_random_clip(Path(sys.argv[1]))' "$parts/clip" 2>/dev/null
clients cpu federation.device=cpu
clients shared federation.device=cuda federation.client_gpus=0.25
clients alone federation.device=cuda federation.client_gpus=1
for mode in reduce-overhead default; do
    bench "step_$mode" 75 step_time --device cuda --classes 45 --compile "$mode" --repeats 3
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
    found[name] = {"exit_status": code}
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
