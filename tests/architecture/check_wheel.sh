#!/usr/bin/env bash
# Builds the wheel, installs it in a clean environment with the source out of the way, and uses it there.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
uv build --quiet --wheel --out-dir "$work/dist" .
uv venv --quiet --python "$(command -v python)" "$work/venv"
uv pip install --quiet --python "$work/venv/bin/python" "$work"/dist/envfarm-*.whl
cp -r tests/wheel "$work/tests"
cd "$work"
"$work/venv/bin/python" -I tests/use_wheel.py "$work"/dist/envfarm-*.whl
