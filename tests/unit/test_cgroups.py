"""Control groups as files: what the kernel says in them is read, and what is gone counts as removed."""

import subprocess
import sys
from pathlib import Path

import pytest

from envfarm.sandbox.local import cgroups
from envfarm.sandbox.local.cgroups import ControlGroups, make_control_groups, remove_group
from envfarm.sandbox.local.memory_kills import MemoryKills


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, {}, (0, 0)),
        ({"memory.events": "max 7\noom 3\noom_kill 2\n"}, {"memory.events": "max 7\noom 3\noom_kill 2\n"}, (0, 0)),
        ({"memory.events": "oom 3\noom_kill 2\noom_group_kill 9\n"}, {"memory.events": "oom 4\noom_kill 4\n"}, (2, 0)),
        ({"memory.events": "oom 3\noom_kill 2\n"}, {"memory.events": "oom 3\noom_kill 3\n"}, (0, 1)),
        ({"memory.oom_control": "under_oom 0\n"}, {"memory.oom_control": "under_oom 1\n"}, (0, 0)),
        (
            {"memory.oom_control": "oom_kill 5\n", "memory.limit_in_bytes": "99999744\n"},
            {"memory.oom_control": "oom_kill 6\n", "memory.max_usage_in_bytes": "98000000\n"},
            (1, 0),
        ),
        (
            {"memory.oom_control": "oom_kill 5\n", "memory.limit_in_bytes": "99999744\n"},
            {"memory.oom_control": "oom_kill 6\n", "memory.max_usage_in_bytes": "97000000\n"},
            (0, 1),
        ),
    ],
)
def test_kills_for_want_of_memory_are_read_in_either_version(
    tmp_path: Path, before: dict[str, str], after: dict[str, str], told: tuple[int, int]
) -> None:
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    kills = MemoryKills(tmp_path)
    for name, text in after.items():
        (tmp_path / name).write_text(text)
    assert kills.look() == told


def test_groups_are_joined_through_their_own_files(tmp_path: Path) -> None:
    groups = ControlGroups((tmp_path / "memory", tmp_path / "pids"))
    assert groups.join_files() == [f"{tmp_path}/memory/cgroup.procs", f"{tmp_path}/pids/cgroup.procs"]
    assert ControlGroups().join_files() == []


def test_groups_are_removed_when_all_are_gone_and_each_is_tried(tmp_path: Path) -> None:
    busy, idle, missing = tmp_path / "busy", tmp_path / "idle", tmp_path / "missing"
    busy.mkdir()
    (busy / "cgroup.procs").write_text("")
    idle.mkdir()
    assert not ControlGroups((busy, idle, missing)).remove()
    assert not idle.exists()
    assert not remove_group(busy)
    (busy / "cgroup.procs").unlink()
    assert ControlGroups((busy, idle, missing)).remove()
    assert ControlGroups().remove()


def test_a_process_of_another_namespace_is_not_taken_for_our_own_group(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("0\n")
    program = (
        "import pathlib, sys; from envfarm.sandbox.local.cgroups import remove_group as r; r(pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, start_new_session=True)
    assert done.returncode == 0, "it signalled process 0, which means its own group"


@pytest.mark.parametrize(
    ("cores", "unified", "quota"),
    [
        (None, False, None),
        (None, True, None),
        (1.5, False, "150000"),
        (1.5, True, "150000 100000"),
        (1e-9, False, "1000"),
    ],
)
def test_processors_are_bounded_where_it_is_asked_for(
    cores: float | None, *, unified: bool, quota: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_ROOT", tmp_path)
    monkeypatch.setattr(cgroups, "_own_unified_group", lambda: tmp_path)
    for controller in ("memory", "pids", "cpu"):
        (tmp_path / controller).mkdir()
    if unified:
        (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
        make = Path.mkdir

        def mkdir(folder: Path, *arguments: int) -> None:  # a kernel's folder has its files at once
            make(folder, *arguments)
            (folder / "cgroup.controllers").write_text("cpu memory pids\n")

        monkeypatch.setattr(Path, "mkdir", mkdir)
    groups = make_control_groups("g")
    groups.bound(memory_bytes=1, process_count=1, cpu_cores=cores)
    place = tmp_path / "g" / "cpu.max" if unified else tmp_path / "cpu" / "g" / "cpu.cfs_quota_us"
    assert (place.read_text() if place.exists() else None) == quota
    assert groups.cpu is not None
    assert len(groups.folders) == (1 if unified else 3)
