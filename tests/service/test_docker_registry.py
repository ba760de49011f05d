"""A base that is named by digest is pulled from a registry, a real one on loopback; what fails there is told apart."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest

from envfarm.errors import ContainerImageMissingError, ContainerImagePullError, SandboxStartError
from envfarm.records.image import Image
from envfarm.sandbox.contract import ExecResult, LeaseRequest
from envfarm.sandbox.docker.engine import open_engine
from envfarm.sandbox.docker.provider import open_docker_provider

PROGRAM = Path(sys.prefix) / "registry" / "docker-registry"
CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error}}
"""
NAME = "envfarm-test-registry"
REQUEST = LeaseRequest(image=Image(image_id="pulled"))


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@contextmanager
def registry(folder: Path, port: int) -> Iterator[None]:
    """A registry that answers on a port of loopback, which engines trust without certificates."""
    config = folder / "config.yml"
    config.write_text(CONFIG.format(folder=folder / "kept", port=port))
    with subprocess.Popen([str(PROGRAM), "serve", str(config)], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            yield
        finally:
            process.kill()


@pytest.fixture
def pushed(docker_base: str, tmp_path: Path) -> Iterator[tuple[Path, int, str]]:
    """The folder and the port of a registry with a base, and that base's name by digest; the engine has it no more."""
    if not PROGRAM.is_file():
        pytest.skip(f"{PROGRAM} is missing: scripts/fetch_registry.sh {PROGRAM.parent}")
    port = free_port()
    name = f"localhost:{port}/{NAME}"
    with open_engine() as engine:
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "Dockerfile").write_text(f"FROM {docker_base}\nENV PULLED=yes\nLABEL pid={os.getpid()}\n")
        made = engine.build_image(tmp_path / "made", name)
    docker("tag", made, f"{name}:1")
    try:
        with registry(tmp_path, port):
            told = docker("push", f"{name}:1")
            (digest,) = re.findall("digest: (sha256:[0-9a-f]{64})", told)
        docker("rmi", "--force", made)
        yield tmp_path, port, f"{name}@{digest}"
    finally:
        for image in set(docker("images", "--quiet", "--no-trunc", name).split()):
            docker("rmi", "--force", image)


async def lease_once(base: str) -> ExecResult:
    async with open_docker_provider({"base": base}) as provider, provider.lease(REQUEST) as box:
        return await box.exec(["sh", "-c", "echo on"], timeout_seconds=30)


def test_a_base_named_by_digest_is_pulled_once_and_runs(pushed: tuple[Path, int, str]) -> None:
    folder, port, base = pushed
    with registry(folder, port):
        assert anyio.run(lease_once, base).stdout == b"on\n"
    assert anyio.run(lease_once, base).stdout == b"on\n"
    with open_engine() as engine:
        assert engine.image_facts(base).variables["PULLED"] == "yes"


def test_what_a_registry_has_not_is_missing_and_what_it_cannot_give_is_a_failed_pull(
    pushed: tuple[Path, int, str],
) -> None:
    folder, port, base = pushed

    def refusal(name: str) -> SandboxStartError:
        with pytest.raises(SandboxStartError) as refused:
            anyio.run(lease_once, name)
        return refused.value

    with registry(folder, port):
        for name in (f"localhost:{port}/none:1", base[:-4] + ("0000" if base[-4:] != "0000" else "1111")):
            missing = refusal(name)
            assert isinstance(missing, ContainerImageMissingError)
            assert name in str(missing)
        for blob in (folder / "kept").rglob("data"):
            content = blob.read_bytes() if blob.stat().st_size < 1 << 20 else b""
            if b'"rootfs"' in content:  # the engine has all layers, and brings only what an image says of itself
                blob.write_bytes(content[:-9])
        assert isinstance(refusal(base), ContainerImagePullError)
    assert isinstance(refusal(base), ContainerImagePullError)
