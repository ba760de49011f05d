#!/usr/bin/env bash
# Installs what some tests of the agent need besides Python packages: a fuzzer, sanitizers, another machine's emulator.
set -euo pipefail
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif sudo -n true 2>/dev/null; then sudo -n "$@"; else return 1; fi
}
install() {
    if ! command -v apt-get >/dev/null || ! as_root true; then
        echo "please install: $* (for instance: sudo apt-get install $*), then run make again" >&2
        exit 1
    fi
    echo "installing $*"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
# Some distributions ship the fuzzer's runtime with clang, others in a package of its own: only linking tells.
fuzzer_links() {
    local folder links=0
    folder=$(mktemp -d)
    echo 'int LLVMFuzzerTestOneInput(const void *data, unsigned long size) { return data == (void *)size; }' |
        clang -fsanitize=fuzzer,address,undefined -x c - -o "$folder/fuzzer" 2>/dev/null || links=1
    rm -rf "$folder"
    return "$links"
}
missing=()
command -v clang >/dev/null || missing+=(clang)
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
command -v qemu-aarch64-static >/dev/null || missing+=(qemu-user-static)
if [ ${#missing[@]} -gt 0 ]; then
    install "${missing[@]}"
fi
if ! fuzzer_links; then
    install "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
fi
