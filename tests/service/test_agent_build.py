"""The agent's programs are what their source says, fit any image, and stand sanitizers and a fuzzer."""

import ast
import hashlib
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from envfarm.errors import MissingToolError
from envfarm.sandbox.agent.programs import TWIN, agent_program
from envfarm.sandbox.client import frames
from envfarm.sandbox.client.connection import open_agent
from envfarm.sandbox.client.job import JobSpec, run_job
from envfarm.sandbox.client.link import Claim
from envfarm.sandbox.client.roads import UnixRoad

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "envfarm" / "sandbox" / "agent" / "source"
MACHINES = ("x86_64", "aarch64")
SANITIZED = [
    "-std=gnu11",
    "-g",
    "-O1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-DPLAIN_MEMORY",
]
NOT_UNDER_SANITIZERS = "flat_memory or use_is_told"
"""Tests that measure memory, which sanitizers multiply."""


def needs(program: str, install: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing: {install}")


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder that every user may use, with a path that leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_programs_are_built_again_byte_for_byte(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "build_agent.py", tmp_path], check=True, capture_output=True)
    for machine in MACHINES:
        shipped = agent_program(machine)
        built = tmp_path / shipped.name
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (shipped, built)]
        assert digests[0] == digests[1], f"{shipped} is not its source's: run scripts/build_agent.py"


@pytest.mark.parametrize("machine", MACHINES)
def test_programs_are_small_static_and_executable(machine: str) -> None:
    path = agent_program(machine)
    content = path.read_bytes()
    assert len(content) <= 100_000
    assert os.access(path, os.X_OK)
    kinds = {"x86_64": 62, "aarch64": 183}
    assert content[:6] == b"\x7fELF\x02\x01"
    assert int.from_bytes(content[18:20], "little") == kinds[machine]
    count, size = int.from_bytes(content[56:58], "little"), int.from_bytes(content[54:56], "little")
    start = int.from_bytes(content[32:40], "little")
    headers = {int.from_bytes(content[start + size * n :][:4], "little") for n in range(count)}
    assert not headers & {2, 3}, "it asks for a dynamic linker"


def test_a_machine_without_a_program_is_told_of_the_twin() -> None:
    with pytest.raises(MissingToolError, match="twin"):
        agent_program("mips")
    assert (TWIN / "__main__.py").is_file()
    assert agent_program("arm64") == agent_program("aarch64")


def test_the_numbers_of_source_client_and_twin_are_the_same() -> None:
    text = (SOURCE / "numbers.h").read_text()
    numbers = dict(re.findall(r"(\w+) = (0x[0-9a-f]+|\d+),", text))
    for prefix, kinds in (("KIND_", frames.Kind), ("STATUS_", frames.Status), ("FIELD_", frames.Tag)):
        ours = {prefix + kind.name: int(kind) for kind in kinds}
        theirs = {name: int(value, 0) for name, value in numbers.items() if name.startswith(prefix)}
        for name in ("KIND_REPLY", "FIELD_MAY_BE_IGNORED", "FIELD_HEADER_SIZE"):
            theirs.pop(name, None)
        assert ours == theirs
    program = "import wire, json; print(json.dumps({k: v for k, v in vars(wire).items() if type(v) is int}))"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(TWIN)}, capture_output=True, check=True
    )
    import json

    twin = json.loads(done.stdout)
    for kinds in (frames.Kind, frames.Status, frames.Tag):
        for kind in kinds:
            value = twin.get(f"F_{kind.name}") if kinds is frames.Tag else None
            assert (twin[kind.name] if value is None else value) == int(kind), kind


def test_the_twin_is_python_3_6_and_standard_library_only() -> None:
    own = {path.stem for path in TWIN.glob("*.py")}
    for path in TWIN.glob("*.py"):
        tree = ast.parse(path.read_text(), feature_version=(3, 6))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert set(names) <= own | sys.stdlib_module_names, path
            assert not isinstance(node, ast.NamedExpr | ast.Match), path


def test_the_protocol_page_names_every_number() -> None:
    page = (SOURCE.parent / "PROTOCOL.md").read_text()
    for kind in frames.Kind:
        assert f"`{kind.name} ({int(kind)})" in page, kind
    for status in frames.Status:
        assert f"| {int(status)} | {status.name} |" in page
    for tag in frames.Tag:
        assert re.search(rf"\b{tag.name}\b", page), tag


def test_the_agent_starts_in_an_image_that_holds_nothing_else(short_folder: Path) -> None:
    """No shell, no C library, no /etc/passwd, no /proc, nothing writable but the socket's folder."""
    needs("bwrap", "apt-get install bubblewrap")
    (short_folder / "run").mkdir()
    box = ["bwrap", "--unshare-all", "--as-pid-1", "--die-with-parent", "--cap-drop", "ALL", "--clearenv"]
    box += [
        "--ro-bind",
        str(agent_program()),
        "/agent",
        "--bind",
        str(short_folder / "run"),
        "/run",
        "--remount-ro",
        "/",
    ]

    async def use(path: Path) -> None:
        claim = Claim(name="empty", key=os.urandom(32), lease_seconds=30)
        async with open_agent(UnixRoad(path), claim) as client:
            assert client.facts.is_first_process
            end = await run_job(client, JobSpec(argv=["/agent"], timeout_seconds=20))
            assert (end.exit_code, end.left_processes) == (2, False)
            assert b"usage" in end.streams[2].data
            end = await run_job(client, JobSpec(argv=["/agent", "--unix", "/run/inner"], timeout_seconds=0.5))
            assert (end.signal, end.timed_out) == (9, True)

    with subprocess.Popen([*box, "--", "/agent", "--unix", "/run/socket"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready unix\n"
        anyio.run(use, short_folder / "run" / "socket")
        assert process.wait(10) == 0


def as_nobody() -> dict[str, Any]:
    """Return how to start a process as a user without rights; who is no root has none already."""
    return {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


def test_a_relay_that_cannot_fork_says_so_and_signals_nobody(short_folder: Path) -> None:
    program = shutil.copy(agent_program(), short_folder / "agent")

    def allow_no_process() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_folder / "s"))
        (short_folder / "s").chmod(0o777)
        listener.listen()
        process = subprocess.Popen(
            [program, "--relay", short_folder / "s"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=allow_no_process,  # noqa: PLW1509 -- only from the new process on, behind its change of user
            **as_nobody(),
        )
        try:  # its input stays open: a relay that went on would wait for it, and end nobody
            assert process.wait(10) == 3
            assert process.stderr is not None
            assert process.stderr.read().count(b"\n") == 1
        finally:
            process.kill()
            process.wait()
            for end in (process.stdin, process.stderr):
                assert end is not None
                end.close()


def test_a_job_of_the_agents_own_user_cannot_read_its_key(short_folder: Path) -> None:
    program = shutil.copy(agent_program(), short_folder / "agent")
    key = os.urandom(32)

    async def use() -> None:
        claim = Claim(name="same", key=key, lease_seconds=30)
        async with open_agent(UnixRoad(short_folder / "s"), claim) as client:
            argv = ["/bin/sh", "-c", "cat /proc/$1/mem; echo $?", "sh", str(process.pid)]
            end = await run_job(client, JobSpec(argv=argv, env={"PATH": "/usr/bin:/bin"}))
            assert (end.streams[1].data, b"Permission denied" in end.streams[2].data) == (b"1\n", True)

    with subprocess.Popen([program, "--unix", short_folder / "s"], stdout=subprocess.DEVNULL, **as_nobody()) as process:
        anyio.run(use)
        assert process.wait(10) == 0


def test_the_program_for_the_other_machine_runs(short_folder: Path) -> None:
    needs("qemu-aarch64-static", "apt-get install qemu-user-static")
    words = ["qemu-aarch64-static", str(agent_program("aarch64")), "--unix", str(short_folder / "s")]

    async def use() -> None:
        claim = Claim(name="arm", key=os.urandom(32), lease_seconds=30)
        async with open_agent(UnixRoad(short_folder / "s"), claim) as client:
            end = await run_job(client, JobSpec(argv=["/bin/sh", "-c", "cat; exit 3"]), stdin=bytes(300_000))
            assert (end.exit_code, end.streams[1].data) == (3, bytes(300_000))

    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        anyio.run(use)
        assert process.wait(10) == 0


def test_the_agents_tests_pass_under_sanitizers(tmp_path: Path) -> None:
    needs("gcc", "apt-get install gcc libc6-dev")
    program = tmp_path / "agent"
    sources = sorted(str(path) for path in SOURCE.glob("*.c"))
    subprocess.run(
        ["gcc", *SANITIZED, "-DPLAIN_MEMORY", "-Wall", "-Wextra", "-Werror", *sources, "-o", str(program)], check=True
    )
    reports = tmp_path / "reports"
    variables = {
        **os.environ,
        "ENVFARM_TEST_AGENT": str(program),
        "ASAN_OPTIONS": f"log_path={reports}:abort_on_error=1:detect_leaks=0",
        "UBSAN_OPTIONS": f"log_path={reports}:print_stacktrace=1",
    }
    words = ["-q", "-p", "no:cacheprovider", "tests/contract", "-k", f"c-unix and not ({NOT_UNDER_SANITIZERS})"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    found = "".join(path.read_text() for path in tmp_path.glob("reports*"))
    assert found == ""
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 50


def test_fuzzing_the_frames_for_a_while_finds_nothing(tmp_path: Path) -> None:
    needs("clang", "scripts/install_test_tools.sh")
    done = subprocess.run(
        [ROOT / "scripts" / "fuzz_agent.sh", "12", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [path.name for path in tmp_path.glob("*-*")] == [], "inputs that crash, leak or hang"
    runs = int(re.findall(r"number_of_executed_units: (\d+)", done.stderr)[-1])
    assert runs > 5_000
