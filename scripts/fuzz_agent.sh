#!/usr/bin/env bash
# Fuzzes the agent's frame parser: fuzz_agent.sh SECONDS [FOLDER for what is found]. Needs clang and its runtime.
set -euo pipefail
seconds=$1
found=${2:-$(mktemp -d)}
cd "$(dirname "$0")/.."
source=envfarm/sandbox/agent/source
harness=tests/data/agent_fuzz
mkdir -p "$found/corpus"
parsed=("$source"/{wire,session,request,plan,bytes,output,sha256,sha256_processor}.c)
clang -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -DPLAIN_MEMORY \
    -I"$source" "$harness/fuzz_frames.c" "${parsed[@]}" -o "$found/fuzz_frames"
"$found/fuzz_frames" -max_total_time="$seconds" -max_len=8192 -rss_limit_mb=1024 -timeout=5 -print_final_stats=1 \
    -artifact_prefix="$found/" "$found/corpus" "$harness/corpus"
