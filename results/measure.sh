#!/usr/bin/env bash
# Runs the standard suite on the GPU of this machine: results/measure.sh [SUITE] [OUT]
#   SUITE  kernels | servers | grid | all (default: kernels)
#   OUT    folder for the records (default: results/GPU)
# COTENANT names the program (default: target/release/cotenant), PROBE the bare kernels (default:
# target/release/examples/probe, made by `cargo build --release -p cotenant-cuda --example probe`). `servers` needs COTENANT_OLLAMA and
# COTENANT_OLLAMA_MODELS, see docs/gpu-host.md. `grid` also measures all 400 points of the tuner's 5 % grid.
# Then: cotenant results results/*/*/run.json --out docs/results.md
set -uo pipefail
cd "$(dirname "$0")/.."
suite=${1:-kernels}
program=${COTENANT:-target/release/cotenant}
probe=${PROBE:-target/release/examples/probe}
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1 | sed 's/^NVIDIA //' | tr 'A-Z ' 'a-z-')
out=${2:-results/$gpu}
date=$(date -u +%F)
failed=0

measure() { # workload, expected exit code, arguments
    local name=$1 expected=$2 code=0
    shift 2
    echo "== $name $*" >&2
    "$program" compare "examples/workloads/$name.yaml" --out "$out/$date-$name" "$@" || code=$?
    if [ "$code" != "$expected" ]; then
        echo "$name: exit code $code, not $expected" >&2
        failed=1
    fi
}

# Three bare loops of the standard decoder: what the harness costs is read off against the solo arm between two of these.
loops() { for _ in 1 2 3; do "$probe" --loop decode 3; done >"$out/$date-kernels/$1.txt"; }

kernels() {
    mkdir -p "$out/$date-kernels"
    "$probe" verify >"$out/$date-kernels/checks.txt" || failed=1
    "$probe" rates >"$out/$date-kernels/rates.txt" || failed=1
    loops loop-before
    measure two-decoders 0 --arms time-slicing,mps,mps:50,mps-memory
    loops loop-after
    measure four-decoders 0 --arms time-slicing,mps
    measure eight-decoders 0 --arms time-slicing,mps
    measure decoder-beside-prefill 0 --arms time-slicing,mps --tune
    measure chat-beside-embed 0 --arms time-slicing,mps
    measure one-faults 4 --arms time-slicing,mps
}

servers() { measure two-servers 0 --arms time-slicing,mps; }

grid() { measure decoder-beside-prefill 0 --arms time-slicing,mps --tune --grid; }

case $suite in
kernels | servers | grid) "$suite" ;;
all) kernels; servers ;;
*) echo "unknown suite: $suite" >&2; exit 2 ;;
esac
exit "$failed"
