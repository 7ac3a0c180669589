#!/usr/bin/env bash
# Starts vLLM with vllm.yaml, which has to lie beside this script.
#
# Model:   DeepSeek-V4-Flash-0731 (v4-flash-0731), deepseek-ai/DeepSeek-V4-Flash-0731, quant native
# Engine:  vLLM 0.33.0 on cuda
# Context: 262144 tokens a sequence, 16 sequences, KV cache fp8
# Layout:  8x NVIDIA H200, tensor parallel 8, expert parallel
# Memory:  nvidia-0 and 7 more like it, each: 19.5 GiB of 140.4 GiB
# Written by v4deploy 0.1.0
#
# Apply: ./run-vllm.sh
# Check: curl -fsS http://127.0.0.1:8000/health
# Undo:  Ctrl-C
# Note:  further options are handed to vLLM and win over vllm.yaml
# Tried: bash and shellcheck took this kind of script, the parsers of vLLM 0.20 to 0.33 these settings; it was not started on a machine with GPUs
# Edit it freely: v4deploy never overwrites an edited file, it writes the new one beside it as `.new`.

set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

weights=/srv/models/weights
engine=vllm

# Without this check vLLM takes a missing directory for the name of a repository and reports a network error.
if [[ ! -f "$weights/config.json" ]]; then
  echo "run-vllm.sh: there are no weights in $weights (no config.json); run \`v4deploy pull\` first" >&2
  exit 1
fi
if ! command -v -- "$engine" >/dev/null; then
  echo "run-vllm.sh: $engine is not installed, or not on PATH; activate its virtual environment first" >&2
  exit 1
fi

export HF_HUB_OFFLINE=1
export TRANSFORMERS_OFFLINE=1
export VLLM_NO_USAGE_STATS=1
export VLLM_DO_NOT_TRACK=1
export VLLM_ENGINE_READY_TIMEOUT_S=3600

exec "$engine" serve --config vllm.yaml "$@"
