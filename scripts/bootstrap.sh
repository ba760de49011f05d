#!/usr/bin/env bash
# Makes the virtual environment, and installs git and bubblewrap where that is possible without asking.
# A second word, "model", installs torch and what the model's tests need as well.
set -euo pipefail
venv=$1
with=${2:-}
cd "$(dirname "$0")/.."

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif sudo -n true 2>/dev/null; then sudo -n "$@"; else return 1; fi
}

missing=()
command -v git >/dev/null || missing+=(git)
command -v bwrap >/dev/null || missing+=(bubblewrap)
command -v python3 >/dev/null || missing+=(python3)
command -v uv >/dev/null || python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null || ! as_root true; then
        echo "please install: ${missing[*]} (for instance: sudo apt-get install ${missing[*]}), then run make again" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
fi

# uv makes the environment, with a newer Python where the system's is older than 3.11.
if [ ! -x "$venv/bin/python" ]; then
    if command -v uv >/dev/null; then
        uv venv --quiet --python '>=3.11' "$venv"
    elif python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        python3 -m venv "$venv"
    else
        python3 -m venv "$venv.uv"
        "$venv.uv/bin/pip" install --quiet uv
        "$venv.uv/bin/uv" venv --quiet --python '>=3.11' "$venv"
        rm -rf "$venv.uv"
    fi
fi
if ! command -v uv >/dev/null && [ ! -x "$venv/bin/uv" ]; then
    "$venv/bin/python" -m ensurepip --upgrade >/dev/null 2>&1 || true
    "$venv/bin/python" -m pip install --quiet uv
fi
uv=$(command -v uv || echo "$venv/bin/uv")
"$uv" pip install --quiet --python "$venv/bin/python" --editable ".${with:+[$with]}" --group "${with:-dev}"
