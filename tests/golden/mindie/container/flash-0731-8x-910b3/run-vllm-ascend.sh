#!/usr/bin/env bash
# vLLM-Ascend in a container on this server: what MindIE Motor runs too, without Kubernetes.
#
# Model:   DeepSeek-V4-Flash-0731 (v4-flash-0731), Eco-Tech/DeepSeek-V4-Flash-0731-w8a8-mtp, quant w8a8
# Engine:  MindIE Motor / vLLM-Ascend 0.23.0 on cann
# Context: 133120 tokens a sequence, 32 sequences, KV cache auto
# Layout:  8x Ascend 910B3, tensor parallel 8, expert parallel
# Memory:  huawei-0 and 7 more like it, each: 35.0 GiB of 64.0 GiB
# Written by v4deploy 0.1.0
#
# Apply: ./run-vllm-ascend.sh
# Check: curl -fsS http://127.0.0.1:8000/health
# Undo:  docker stop -t 60 v4-flash-0731
# Note:  further options are handed to vLLM and win over those below
# Tried: bash and shellcheck took this kind of script; no container was started
# Edit it freely: v4deploy never overwrites an edited file, it writes the new one beside it as `.new`.

# Pin the image by digest once you have tried it. The arguments are those of vLLM-Ascend's tutorials.
set -euo pipefail

image=quay.io/ascend/vllm-ascend:v0.23.0
name=v4-flash-0731
weights=/srv/models/weights

fail() {
  echo "run-vllm-ascend.sh: $*" >&2
  exit 1
}

command -v docker >/dev/null || fail "docker is not installed, or not on PATH"
[[ -f "$weights/config.json" ]] || fail "there are no weights in $weights (no config.json); run \`v4deploy pull\` first"

options=(
  --rm --name "$name"
  # The engine listens on 127.0.0.1 of the host itself.
  --net=host
  --shm-size=512g
  # The documented containers are privileged; without it these drivers refuse with "operation not permitted".
  --privileged
  --volume "$weights:/weights:ro"
)
shopt -s nullglob
count=0
for npu in /dev/davinci[0-9]*; do
  options+=(--device "$npu:$npu:rwm")
  count=$((count + 1))
done
((count >= 8)) || fail "this plan takes 8 NPUs, and /dev has $count of them; run \`v4deploy doctor\`"
for node in /dev/davinci_manager /dev/devmm_svm /dev/hisi_hdc; do
  if [[ -e "$node" ]]; then options+=(--device "$node:$node:rwm"); fi
done
# A missing host file must not be mounted: Docker would make it a directory, also on the host.
for path in \
  /usr/local/dcmi \
  /usr/local/Ascend/driver/tools/hccn_tool \
  /usr/local/bin/npu-smi \
  /usr/local/Ascend/driver/lib64 \
  /usr/local/Ascend/driver/version.info \
  /etc/ascend_install.info \
  /etc/hccn.conf; do
  if [[ -e "$path" ]]; then options+=(--volume "$path:$path:ro"); fi
done

options+=(--env HF_HUB_OFFLINE=1)
options+=(--env TRANSFORMERS_OFFLINE=1)
options+=(--env VLLM_NO_USAGE_STATS=1)
options+=(--env VLLM_DO_NOT_TRACK=1)
options+=(--env VLLM_ENGINE_READY_TIMEOUT_S=3600)
options+=(--env OMP_PROC_BIND=false)
options+=(--env OMP_NUM_THREADS=10)
options+=(--env PYTORCH_NPU_ALLOC_CONF=expandable_segments:True)
options+=(--env TASK_QUEUE_ENABLE=1)
options+=(--env HCCL_OP_EXPANSION_MODE=AIV)
options+=(--env HCCL_BUFFSIZE=1024)

# Runs inside the container, where `bash -c` reads no .bashrc: without CANN's and ATB's variables vLLM finds no device.
# shellcheck disable=SC2016
inside='
for file in /usr/local/Ascend/cann/set_env.sh /usr/local/Ascend/ascend-toolkit/set_env.sh; do
  if [ -f "$file" ]; then . "$file"; break; fi
done
if [ -f /usr/local/Ascend/nnal/atb/set_env.sh ]; then . /usr/local/Ascend/nnal/atb/set_env.sh --cxx_abi=1; fi
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/usr/local/lib"
allocator="/usr/lib/$(uname -m)-linux-gnu/libjemalloc.so.2"
if [ -f "$allocator" ]; then export LD_PRELOAD="$allocator${LD_PRELOAD:+:$LD_PRELOAD}"; fi
exec vllm serve "$@"
'

arguments=(
  /weights \
    --served-model-name v4-flash-0731 \
    --host 127.0.0.1 \
    --port 8000 \
    --data-parallel-size 1 \
    --tensor-parallel-size 8 \
    --enable-expert-parallel \
    --quantization ascend \
    --max-model-len 133120 \
    --max-num-seqs 32 \
    --max-num-batched-tokens 8192 \
    --gpu-memory-utilization 0.9 \
    --block-size 128 \
    --tokenizer-mode deepseek_v4 \
    --tool-call-parser deepseek_v4 \
    --enable-auto-tool-choice \
    --reasoning-parser deepseek_v4 \
    --compilation-config '{"cudagraph_mode":"FULL_DECODE_ONLY"}' \
    --no-disable-hybrid-kv-cache-manager \
    --model-loader-extra-config '{"enable_multithread_load":true,"num_threads":128}' \
    --shutdown-timeout 30
)

exec docker run "${options[@]}" --entrypoint /bin/bash "$image" -c "$inside" vllm "${arguments[@]}" "$@"
