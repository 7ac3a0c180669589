#!/bin/sh
# Imports the split weight files into a running Ollama.
#
# Model:   DeepSeek-V4-Flash-0731 (v4-flash-0731), unsloth/DeepSeek-V4-Flash-0731-GGUF, quant UD-Q4_K_XL
# Engine:  Ollama 0.33.0 on cpu
# Context: 65536 tokens a sequence, 2 sequences, KV cache f16
# Layout:  processor only
# Memory:  host memory: 144.9 GiB of 256.0 GiB
# Written by v4deploy 0.1.0
#
# Apply: ./import-ollama.sh
# Check: ollama show v4-flash-0731
# Undo:  ollama rm v4-flash-0731
# Note:  start Ollama first; run it again after an interruption
# Tried: sh and shellcheck took this kind of script; Ollama 0.9.3 took the import of a tiny llama and the Modelfile (without its `REQUIRES`, which is newer); V4 was not run
# Edit it freely: v4deploy never overwrites an edited file, it writes the new one beside it as `.new`.

# Ollama's own library has V4 in the cloud only (`ollama pull deepseek-v4-flash` fetches no weights), and it cannot pull
# split files from a hub. It copies every file, and before 0.35.0 it then writes one merged file, so that its
# store takes twice the size of the model beside the files here; the copies go when Ollama starts the next time.
# OLLAMA_URL: where Ollama answers. OLLAMA_MODELS: its store, for the check of free space.
set -eu

url=${OLLAMA_URL:-http://127.0.0.1:11434}
model=v4-flash-0731
minimum_version=0.32.6
unmerged_version=0.35.0

fail() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

# A proxy from the environment must not see requests to this machine.
progress=--silent
call() { curl "$progress" --show-error --noproxy '127.0.0.1,localhost,::1' --connect-timeout 10 "$@"; }

sha256_of() {
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum "$1" | cut -d ' ' -f 1
    else
        shasum -a 256 "$1" | cut -d ' ' -f 1
    fi
}

# Version $1 comes before version $2.
is_older() {
    [ "$1" != "$2" ] &&
        [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t . -k 1,1n -k 2,2n -k 3,3n | head -n 1)" = "$1" ]
}

check_server() {
    answer=$(call --fail "$url/api/version") ||
        fail "no Ollama answers at $url" "start it: sudo systemctl start ollama, or ./run-ollama.sh"
    version=$(printf '%s' "$answer" | sed -n 's/.*"version" *: *"\([0-9.]*\).*/\1/p')
    [ -n "$version" ] || fail "$url does not answer like Ollama: $answer"
    ! is_older "$version" "$minimum_version" ||
        fail "Ollama $version is too old for this model: it takes $minimum_version or newer" "update Ollama"
}

# look FILE NAME_IN_JSON SHA256 (empty: computed here)
number=0
total_bytes=0
missing_bytes=0
look() {
    number=$((number + 1))
    [ -r "$1" ] || fail "cannot read $1" "fetch the weights again: v4deploy pull"
    bytes=$(($(wc -c <"$1")))
    [ -n "$3" ] || echo "hashing $number of 5 ($((bytes / 1048576)) MiB): $1"
    digest=${3:-$(sha256_of "$1")}
    [ -n "$digest" ] || fail "no SHA-256 of $1"
    status=$(call --head --output /dev/null --write-out '%{http_code}' "$url/api/blobs/sha256:$digest") ||
        fail "Ollama went away"
    total_bytes=$((total_bytes + bytes))
    if [ "$status" = 200 ]; then
        echo "already there: $1"
    else
        missing_bytes=$((missing_bytes + bytes))
        printf '%s %s %s\n' "$digest" "$bytes" "$1" >>"$work/missing"
    fi
    [ ! -s "$work/files" ] || printf ',' >>"$work/files"
    printf '%s:"sha256:%s"' "$2" "$digest" >>"$work/files"
}

check_space() {
    case $url in
    http://127.* | http://localhost* | 'http://[::1]'*) ;;
    *) echo "Ollama runs elsewhere: its free space is not checked"; return ;;
    esac
    store=${OLLAMA_MODELS:-}
    for directory in /usr/share/ollama "${HOME:-/}"; do
        [ -n "$store" ] || [ ! -d "$directory" ] || store=$directory
    done
    free_kib=$(df -Pk "$store" | awk 'NR == 2 { print $4 }')
    [ -n "$free_kib" ] || fail "the free space of $store cannot be read" "set OLLAMA_MODELS to Ollama's store"
    needed_kib=$((missing_bytes / 1024))
    ! is_older "$version" "$unmerged_version" || needed_kib=$((needed_kib + total_bytes / 1024))
    [ "$free_kib" -ge "$needed_kib" ] ||
        fail "$store has $((free_kib / 1048576)) GiB free, the import takes $((needed_kib / 1048576)) GiB" \
            "make room; if Ollama keeps its models elsewhere, set OLLAMA_MODELS to that directory"
}

upload() {
    number=0
    while read -r digest bytes file; do
        number=$((number + 1))
        echo "copying $number of $(($(wc -l <"$work/missing"))) ($((bytes / 1048576)) MiB): $file"
        [ ! -t 2 ] || progress=--progress-bar
        # --upload-file streams; --data-binary would first read the whole file into memory.
        status=$(call --request POST --header 'Expect:' --upload-file "$file" --output "$work/answer" \
            --write-out '%{http_code}' "$url/api/blobs/sha256:$digest" </dev/null) ||
            fail "copying $file broke off" "run this script again"
        progress=--silent
        [ "$status" = 201 ] || [ "$status" = 200 ] ||
            fail "Ollama refused $file ($status): $(cat "$work/answer")" \
                "check the files with v4deploy verify, and the free space of its store"
    done <"$work/missing"
}

create() {
    ! is_older "$version" "$unmerged_version" ||
        echo "merging: Ollama writes one file of $((total_bytes / 1048576)) MiB and hashes it, which takes as long as reading and writing it"
    {
        printf '%s' '{"model":"v4-flash-0731","files":{'
        cat "$work/files"
        printf '%s' '},"parameters":{"num_ctx": 65536, "num_batch": 512, "temperature": 1, "top_p": 1, "top_k": 0, "min_p": 0},"license":"MIT","stream":true}'
    } >"$work/request"
    call --no-buffer --header 'Content-Type: application/json' --data-binary "@$work/request" "$url/api/create" |
        while IFS= read -r line || [ -n "$line" ]; do
            printf '%s\n' "$line"
            case $line in
            *'"error"'*) exit 1 ;;
            *'"status"'*'"success"'*) : >"$work/done" ;;
            esac
        done || fail "Ollama could not make the model; its answer stands above"
    [ -e "$work/done" ] || fail "Ollama broke off before it was done" "read its log, then run this script again"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
: >"$work/files"
: >"$work/missing"

check_server
look /srv/models/weights/UD-Q4_K_XL/DeepSeek-V4-Flash-0731-UD-Q4_K_XL-00001-of-00005.gguf '"DeepSeek-V4-Flash-0731-UD-Q4_K_XL-00001-of-00005.gguf"' ''
look /srv/models/weights/UD-Q4_K_XL/DeepSeek-V4-Flash-0731-UD-Q4_K_XL-00002-of-00005.gguf '"DeepSeek-V4-Flash-0731-UD-Q4_K_XL-00002-of-00005.gguf"' ''
look /srv/models/weights/UD-Q4_K_XL/DeepSeek-V4-Flash-0731-UD-Q4_K_XL-00003-of-00005.gguf '"DeepSeek-V4-Flash-0731-UD-Q4_K_XL-00003-of-00005.gguf"' ''
look /srv/models/weights/UD-Q4_K_XL/DeepSeek-V4-Flash-0731-UD-Q4_K_XL-00004-of-00005.gguf '"DeepSeek-V4-Flash-0731-UD-Q4_K_XL-00004-of-00005.gguf"' ''
look /srv/models/weights/UD-Q4_K_XL/DeepSeek-V4-Flash-0731-UD-Q4_K_XL-00005-of-00005.gguf '"DeepSeek-V4-Flash-0731-UD-Q4_K_XL-00005-of-00005.gguf"' ''
check_space
upload
create
echo "imported: ollama run $model"
