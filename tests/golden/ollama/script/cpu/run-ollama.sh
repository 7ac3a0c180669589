#!/bin/sh
# Starts the Ollama server in the foreground, where no service runs it.
#
# Model:   DeepSeek-V4-Flash-0731 (v4-flash-0731), unsloth/DeepSeek-V4-Flash-0731-GGUF, quant UD-Q4_K_XL
# Engine:  Ollama 0.33.0 on cpu
# Context: 65536 tokens a sequence, 2 sequences, KV cache f16
# Layout:  processor only
# Memory:  host memory: 144.9 GiB of 256.0 GiB
# Written by v4deploy 0.1.0
#
# Apply: ./run-ollama.sh
# Check: curl --fail http://127.0.0.1:11434/api/version
# Undo:  Ctrl-C
# Note:  once it runs, ./import-ollama.sh in another shell brings the model in, one time
# Tried: sh and shellcheck took this kind of script; Ollama 0.9.3 took the import of a tiny llama and the Modelfile (without its `REQUIRES`, which is newer); V4 was not run
# Edit it freely: v4deploy never overwrites an edited file, it writes the new one beside it as `.new`.

set -eu

export OLLAMA_HOST=127.0.0.1:11434
export OLLAMA_CONTEXT_LENGTH=65536
export OLLAMA_NUM_PARALLEL=2
export OLLAMA_MAX_LOADED_MODELS=1
export OLLAMA_KEEP_ALIVE=-1
export OLLAMA_LOAD_TIMEOUT=1076s
export OLLAMA_FLASH_ATTENTION=1
export OLLAMA_KV_CACHE_TYPE=f16
export OLLAMA_NO_CLOUD=1
exec ollama serve
