#!/usr/bin/env bash
# Puts a registry of images into a folder, for the tests that pull from one: fetch_registry.sh FOLDER. Nothing is
# installed: where a package manager would start it as a service, it is unpacked only.
set -euo pipefail
folder=$1
[ -x "$folder/docker-registry" ] && exit 0
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "please put a docker-registry (distribution 2.8 or newer) into $folder, then run make again" >&2
    exit 1
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
[ "$(id -u)" = 0 ] && apt-get update -qq
(cd "$scratch" && apt-get download -qq -o APT::Sandbox::User=root docker-registry)
dpkg -x "$scratch"/docker-registry_*.deb "$scratch/unpacked"
mkdir -p "$folder"
cp "$scratch/unpacked/usr/bin/docker-registry" "$folder/docker-registry.part"
mv "$folder/docker-registry.part" "$folder/docker-registry"
