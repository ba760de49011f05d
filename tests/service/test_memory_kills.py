"""A process that ends for want of memory: of its box's own bound it is an outcome, of the machine's it is none."""

import importlib.util
import os
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import anyio.to_thread
import pytest

from envfarm.errors import SandboxLostError
from envfarm.records.image import Image
from envfarm.sandbox.contract import MEBIBYTE, ExecResult, LeaseRequest, Limits, Sandbox
from envfarm.sandbox.local import base_jail
from envfarm.sandbox.local.cgroups import ControlGroups
from envfarm.sandbox.local.memory_kills import MemoryKills
from envfarm.sandbox.local.provider import open_local_provider

TWIN = Path(base_jail.__file__).parents[1] / "agent" / "twin" / "system.py"
HUNGRY = "x = b'x' * 200_000_000"
NAME = f"envfarm-test-memory-{os.getpid()}"
REQUEST = LeaseRequest(image=Image(image_id="hungry"), limits=Limits(memory_bytes=512 * MEBIBYTE))


def twin_of(group: Path) -> Any:
    """What the agent's twin in Python sees of a group as a box's own."""
    spec = importlib.util.spec_from_file_location("twin_system", TWIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kinds = (str(group / "memory"), str(group / "memory.memsw"))
    places = {"UNIFIED": str(group / "memory.events"), "KILLS": str(group / "memory.oom_control"), "KINDS": kinds}
    return type("OfGroup", (module.MemoryKills,), places)()


def twin_look(twin: Any) -> tuple[int, bool]:
    twin.look()
    return twin.own, twin.machine


def test_who_asked_for_a_kill_is_told_by_which_bound_was_reached(memory_groups: ModuleType) -> None:
    with memory_groups.memory_group(NAME) as parent:
        child = parent / "child"
        child.mkdir()
        try:
            memory_groups.bound_memory(parent, 64 * MEBIBYTE)
            memory_groups.bound_memory(child, 64 * MEBIBYTE)
            kills, twin = MemoryKills(child), twin_of(child)
            assert kills.look() == (0, 0)
            memory_groups.bound_memory(child, 32 * MEBIBYTE)
            assert memory_groups.hunger_in(child) == -signal.SIGKILL
            assert kills.look() == (1, 0)
            assert twin_look(twin) == (1, False)
            memory_groups.bound_memory(child, 63 * MEBIBYTE)
            memory_groups.bound_memory(parent, 32 * MEBIBYTE)
            assert memory_groups.hunger_in(child) == -signal.SIGKILL
            assert kills.look() == (1, 1)
            assert kills.look() == (1, 1)
            assert twin_look(twin) == (1, True)
        finally:
            memory_groups.remove(child)


async def hungry(box: Sandbox, words: str) -> ExecResult:
    return await box.exec(["sh", "-c", words, "sh", HUNGRY], timeout_seconds=60)


CHILD = '/usr/bin/python3 -c "$1"; echo on'


@pytest.mark.parametrize("words", ['exec /usr/bin/python3 -c "$1"', CHILD])
def test_a_jail_that_the_machine_has_no_memory_for_is_lost_and_no_command_of_it_has_ended(
    words: str, memory_groups: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory_groups.memory_group(NAME) as parent:

        def make(name: str) -> ControlGroups:
            group = parent / name
            group.mkdir()
            return ControlGroups((group,), memory=group)

        monkeypatch.setattr(base_jail, "make_control_groups", make)

        async def run() -> None:
            async with open_local_provider({}) as provider, provider.lease(REQUEST) as box:
                assert (await hungry(box, words)).exit_code == 0
                memory_groups.bound_memory(parent, 100 * MEBIBYTE)
                with pytest.raises(SandboxLostError, match="this machine has no memory left"):
                    await hungry(box, words)

        anyio.run(run)


@pytest.mark.usefixtures("memory_groups")
def test_a_jail_s_own_bound_is_its_command_s_outcome() -> None:
    async def run() -> tuple[ExecResult, ExecResult]:
        request = LeaseRequest(image=Image(image_id="hungry"), limits=Limits(memory_bytes=100 * MEBIBYTE))
        async with open_local_provider({}) as provider, provider.lease(request) as box:
            return await hungry(box, 'exec /usr/bin/python3 -c "$1"'), await hungry(box, "kill -9 $$")

    own, killed = anyio.run(run)
    assert (own.signal, own.out_of_memory) == (signal.SIGKILL, True)
    assert (killed.signal, killed.out_of_memory) == (signal.SIGKILL, False)


def test_without_groups_a_kill_beside_one_of_the_machine_is_nobody_s_outcome(
    memory_groups: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_jail, "make_control_groups", lambda _: ControlGroups())

    async def run(group: Path) -> None:
        async with (
            open_local_provider({}) as provider,
            provider.lease(REQUEST) as box,
            anyio.create_task_group() as all_,
        ):
            all_.start_soon(anyio.to_thread.run_sync, memory_groups.hunger_in, group)
            assert (await hungry(box, "sleep 3; exit 7")).exit_code == 7
            all_.start_soon(anyio.to_thread.run_sync, memory_groups.hunger_in, group)
            with pytest.raises(SandboxLostError, match="this machine has no memory left"):
                await hungry(box, "sleep 3; kill -9 $$")

    with memory_groups.memory_group(NAME) as parent:
        group = parent / "child"
        group.mkdir()
        try:
            memory_groups.bound_memory(group, 32 * MEBIBYTE)
            anyio.run(run, group)
        finally:
            memory_groups.remove(group)
