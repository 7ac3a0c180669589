#!/bin/sh
# Starts llama-server in the foreground.
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
# Apply: ./run-llama-server.sh
# Check: curl --fail http://127.0.0.1:8080/health
# Undo:  Ctrl-C
# Note:  more options may follow, and win
# Tried: llama-server (build 11434) answered through this kind of script, with a tiny model on a processor; shellcheck took it
# Edit it freely: v4deploy never overwrites an edited file, it writes the new one beside it as `.new`.

set -eu

model=/srv/models/weights/UD-Q4_K_XL/DeepSeek-V4-Flash-0731-UD-Q4_K_XL-00001-of-00005.gguf
server=llama-server

if ! command -v "$server" >/dev/null 2>&1; then
    printf '%s\n' "error: $server is not there" "hint: install llama.cpp, or put its directory into PATH" >&2
    exit 127
fi
if [ ! -r "$model" ]; then
    printf '%s\n' "error: cannot read $model" "hint: fetch the weights again: v4deploy pull" >&2
    exit 66
fi

exec "$server" \
    --model /srv/models/weights/UD-Q4_K_XL/DeepSeek-V4-Flash-0731-UD-Q4_K_XL-00001-of-00005.gguf \
    --alias v4-flash-0731 \
    --ctx-size 131072 \
    --parallel 2 \
    --no-kv-unified \
    --batch-size 2048 \
    --ubatch-size 2048 \
    --fit off \
    --n-gpu-layers all \
    --n-cpu-moe 43 \
    --load-mode mmap \
    --temp 1.0 \
    --top-p 1.0 \
    --top-k 0 \
    --min-p 0 \
    --jinja \
    --host 127.0.0.1 \
    --port 8080 \
    --cors-origins localhost \
    --metrics \
    --api-key-file /etc/v4deploy/api-key \
    "$@"
