#!/usr/bin/env bash
# Installs and starts a Docker daemon where there is none, with a compose command, and makes the base image of boxes;
# as root or with sudo.
set -euo pipefail
cd "$(dirname "$0")/.."

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif sudo -n true 2>/dev/null; then sudo -n "$@"; else return 1; fi
}
answers() { docker info >/dev/null 2>&1; }
has_compose() { docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null; }
give_up() {
    echo "$1" >&2
    exit 1
}

missing=()
command -v docker >/dev/null || missing+=(docker.io)
command -v dockerd >/dev/null || answers || missing+=(docker.io)
command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
if ! has_compose; then
    if command -v apt-get >/dev/null && as_root true; then
        missing+=(docker-compose)
    else
        echo "tasks with a docker-compose file will be refused: please install docker-compose" >&2
    fi
fi
if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null || ! as_root true; then
        give_up "please install: ${missing[*]} (for instance: sudo apt-get install ${missing[*]}), then try again"
    fi
    echo "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
fi

if ! answers; then
    as_root true || give_up "no Docker daemon answers to this user: sudo systemctl start docker, or join the group docker"
    if [ -d /run/systemd/system ]; then
        as_root systemctl start docker
    else
        echo "starting dockerd"
        as_root sh -c 'setsid nohup dockerd >/var/log/dockerd.log 2>&1 &'
    fi
    for _ in $(seq 300); do
        answers && break
        sleep 0.2
    done
    answers || give_up "the Docker daemon did not come up: see /var/log/dockerd.log, or journalctl -u docker"
fi

.venv/bin/envfarm images base
