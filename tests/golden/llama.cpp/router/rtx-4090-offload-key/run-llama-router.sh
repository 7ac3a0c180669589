#!/bin/sh
# Starts llama-server as a router for the models in models.ini, which has to lie beside this script.
#
# Model:   DeepSeek-V4-Flash-0731 (v4-flash-0731), unsloth/DeepSeek-V4-Flash-0731-GGUF, quant UD-Q4_K_XL
# Engine:  llama.cpp 11434 on cuda
# Context: 65536 tokens a sequence, 2 sequences, KV cache f16
# Layout:  1x NVIDIA GeForce RTX 4090
# Memory:  nvidia-0: 7.8 GiB of 24.0 GiB
# Memory:  host memory: 137.1 GiB of 256.0 GiB
# Offload: routed experts of 43 layers stay in host memory
# Written by v4deploy 0.1.0
#
# Apply: ./run-llama-router.sh
# Check: curl --fail http://127.0.0.1:8080/health
# Undo:  Ctrl-C
# Note:  more options may follow, and win; the router answers at once, a model when it is loaded
# Tried: llama-server (build 11434) as a router took this kind of preset and answered from it, with a tiny model on a processor
# Edit it freely: v4deploy never overwrites an edited file, it writes the new one beside it as `.new`.

set -eu
cd -- "$(dirname -- "$0")"

server=llama-server

if ! command -v "$server" >/dev/null 2>&1; then
    printf '%s\n' "error: $server is not there" "hint: install llama.cpp, or put its directory into PATH" >&2
    exit 127
fi

exec "$server" \
    --models-preset models.ini \
    --models-max 1 \
    --host 127.0.0.1 \
    --port 8080 \
    --cors-origins localhost \
    --metrics \
    --api-key-file /etc/v4deploy/api-key \
    "$@"
