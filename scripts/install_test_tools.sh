#!/usr/bin/env bash
# Installs what some tests of the agent need besides Python packages: a fuzzer, sanitizers, another machine's emulator.
set -euo pipefail
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif sudo -n true 2>/dev/null; then sudo -n "$@"; else return 1; fi
}
missing=()
command -v clang >/dev/null || missing+=(clang)
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
command -v qemu-aarch64-static >/dev/null || missing+=(qemu-user-static)
install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
if [ ${#missing[@]} -gt 0 ]; then
    as_root apt-get update -qq
    install "${missing[@]}"
fi
# The runtime of clang's fuzzer is a package of its own, named after the version.
if [ ! -e "$(clang -print-file-name=libclang_rt.fuzzer-"$(uname -m)".a)" ]; then
    install "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
fi
