"""What cheats on a task of another maker are made from: its workspace, read out of a box, and its hidden tests.

The true fix of a Harbor task is what its solution changes in the working directory of a box; that of a SWE-bench task
is its gold patch.
"""

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from envfarm.audit.cheat import CheatTarget
from envfarm.audit.target import LOOKED_AT, apply_diff, paths_of
from envfarm.errors import TaskError
from envfarm.foreign.artifacts import take_artifact
from envfarm.foreign.box import Box
from envfarm.foreign.harbor_task import HarborTask
from envfarm.foreign.request import JudgeRequest
from envfarm.foreign.swebench_task import SweBenchTask

_GOLD, _TEST_PATCH = "gold.patch", "test.patch"
_CACHES = frozenset({"__pycache__", ".git", ".pytest_cache"})
_MOST_BYTES = 8 << 20
_SMALLEST_TREE = "."


@dataclass(frozen=True, kw_only=True)
class ForeignTarget:
    """A task's facts, and its workspace at the base.

    Attributes:
        cheats: What cheats are made from.
        workspace: The working directory as an archive, names relative to it.
    """

    cheats: CheatTarget
    workspace: bytes = field(repr=False)


async def read_harbor_target(task: HarborTask, base: JudgeRequest, solved: JudgeRequest) -> ForeignTarget:
    """Return the facts of a Harbor task of one step.

    Args:
        task: The task.
        base: Asks for no work.
        solved: Asks for the oracle's.

    Raises:
        BoundaryError: A box does not come about.
        UserError: The task has several steps or no solution.
    """
    async with task.open_worked_box(base) as box:
        workspace = await _take_workspace(box)
    async with task.open_worked_box(solved) as box:
        after = files_of(await _take_workspace(box))
    before = files_of(workspace)
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    if not changed:
        message = "solution/solve.sh: it changes nothing in the working directory, so no cheat knows where to begin"
        raise TaskError(message)
    prefix = "tests/"
    hidden = {path[len(prefix) :]: text for path, text in task.tree.files.items() if path.startswith(prefix)}
    target = CheatTarget(
        sources={path: before.get(path) for path in changed},
        base={path: text for path, text in before.items() if PurePosixPath(path).name in LOOKED_AT},
        paths=frozenset(before),
        hidden_tests=hidden,
        fixed={path: after.get(path) for path in changed},
    )
    return ForeignTarget(cheats=target, workspace=workspace)


async def read_swebench_target(task: SweBenchTask, base: JudgeRequest) -> ForeignTarget:
    """Return the facts of a task of a SWE-bench task repository.

    Raises:
        BoundaryError: A box does not come about.
        TaskError: One of its patches is missing, or does not apply to its image.
    """
    for name in (_GOLD, _TEST_PATCH):
        if name not in task.files:
            message = f"{name}: it is missing, and cheats are made from it"
            raise TaskError(message)
    async with task.open_box(base) as box:
        workspace = await _take_workspace(box)
    before = files_of(workspace)
    gold, test_patch = task.files[_GOLD], task.files[_TEST_PATCH]
    fixed_paths, test_paths = paths_of(gold), paths_of(test_patch)
    fixed = apply_diff(_only(before, fixed_paths), gold, fixed_paths)
    hidden = apply_diff(_only(before, test_paths), test_patch, test_paths)
    target = CheatTarget(
        sources={path: before.get(path) for path in fixed_paths if path not in test_paths},
        tests=_only(before, test_paths),
        base={path: text for path, text in before.items() if PurePosixPath(path).name in LOOKED_AT},
        paths=frozenset(before),
        fail_to_pass=task.tests.fail_to_pass,
        pass_to_pass=task.tests.pass_to_pass,
        hidden_tests={path: text for path, text in hidden.items() if text is not None},
        fixed=fixed,
    )
    return ForeignTarget(cheats=target, workspace=workspace)


def _only(files: Mapping[str, bytes], paths: tuple[str, ...]) -> dict[str, bytes]:
    return {path: files[path] for path in paths if path in files}


async def _take_workspace(box: Box) -> bytes:
    """Return the working directory as an archive, names relative to it."""
    archive = await take_artifact(box, _SMALLEST_TREE)
    top = str(box.working_directory).strip("/")
    moved = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as old, tarfile.open(fileobj=moved, mode="w") as new:
        for member in old:
            name = member.name[len(top) :].strip("/")
            if name:
                content = old.extractfile(member) if member.isreg() else None
                member.name = name
                new.addfile(member, content)
    return moved.getvalue()


def files_of(archive: bytes) -> dict[str, bytes]:
    """Return the regular files of a workspace, but those of repositories and caches, and large ones."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        for member in packed:
            if member.isreg() and member.size <= _MOST_BYTES and not _CACHES & set(PurePosixPath(member.name).parts):
                content = packed.extractfile(member)
                found[member.name] = content.read() if content is not None else b""
    return found
