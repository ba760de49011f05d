"""Tries cheats on a task of another maker, with its own verifier."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envfarm.audit.cheat import Cheat, CheatTarget, Family
from envfarm.audit.foreign_target import ForeignTarget, files_of, read_harbor_target, read_swebench_target
from envfarm.audit.target import apply_diff, paths_of
from envfarm.audit.trial import THEIRS, CheatResult
from envfarm.errors import TaskError
from envfarm.foreign.harbor_task import HarborTask
from envfarm.foreign.request import ImageSource, JudgeRequest, Work, WorkKind
from envfarm.foreign.swebench_task import SweBenchTask
from envfarm.grading.foreign_grade import ForeignOptions, grade_foreign
from envfarm.records.verdict import Outcome, Verdict
from envfarm.sandbox.contract import SandboxProvider

_LEAST_SECONDS, _SLACK = 30.0, 5.0
"""What a cheat's judging may take, against that of the true fix."""
_NOT_TRIED = frozenset({Family.RESOURCES, Family.HONEST})
"""Nothing bounds the disk of such a box, and the honest variants ask about layers of ours."""


@dataclass(frozen=True, kw_only=True)
class ForeignTrial:
    """One foreign task on which cheats are tried; use `open_trial`.

    Attributes:
        task: The task, its verifier bounded by what the true fix takes.
        target: Its facts.
        provider: Leases the boxes.
        images: Brings their images.
        options: How work is graded.
        baseline: What no work at all is paid.
    """

    task: HarborTask | SweBenchTask
    target: ForeignTarget
    provider: SandboxProvider
    images: ImageSource
    options: ForeignOptions
    baseline: float

    async def try_cheat(self, cheat: Cheat) -> CheatResult:
        """Grade one cheat in fresh boxes; one that does not fit the task gets no verdict.

        Raises:
            UserError: This machine lacks something.
        """
        target = self.target.cheats
        patch = cheat.make(target) if cheat.family not in _NOT_TRIED else None
        work = None if patch is None else self._work(patch)
        verdicts: Mapping[str, Verdict] = {} if work is None else {THEIRS: await self.grade(work)}
        return CheatResult(cheat=cheat, verdicts=verdicts, with_fix=target.with_fix, baseline=self.baseline)

    async def grade(self, work: Work) -> Verdict:
        """Grade work with the task's own verifier."""
        return await grade_foreign(self.task, work, provider=self.provider, images=self.images, options=self.options)

    def _work(self, patch: bytes) -> Work | None:
        """Return a diff as the form takes it; None where a Harbor task's workspace cannot come of it."""
        if isinstance(self.task, SweBenchTask):
            return Work(kind=WorkKind.PATCH, content=patch)
        try:
            changed = apply_to_workspace(self.target.workspace, patch)
        except TaskError:
            return None
        return Work(kind=WorkKind.WORKSPACE, content=changed)


async def open_trial(
    task: HarborTask | SweBenchTask,
    *,
    provider: SandboxProvider,
    images: ImageSource,
    options: ForeignOptions,
    with_fix: bool = False,
) -> ForeignTrial:
    """Return a task as something to try cheats on; its true fix and no work at all are graded first.

    Raises:
        TaskError: The true fix earns no more than no work, so nothing could be said of cheats.
        BoundaryError: A box does not come about.
    """

    def asks(kind: WorkKind) -> JudgeRequest:
        return JudgeRequest(work=Work(kind=kind), lease=provider.lease, images=images, environ=options.environ)

    graded = [
        await grade_foreign(task, Work(kind=kind), provider=provider, images=images, options=options)
        for kind in (WorkKind.ORACLE, WorkKind.NO_OP)
    ]
    fix, nothing = graded
    baseline = _baseline(fix, nothing)
    if isinstance(task, HarborTask):
        target = await read_harbor_target(task, asks(WorkKind.NO_OP), asks(WorkKind.ORACLE))
    else:
        target = await read_swebench_target(task, asks(WorkKind.NO_OP))
    cheats: CheatTarget = target.cheats.beside_the_fix() if with_fix else target.cheats
    return ForeignTrial(
        task=task.bounded(max(_LEAST_SECONDS, _SLACK * fix.seconds.get("verify", 0.0))),
        target=ForeignTarget(cheats=cheats, workspace=target.workspace),
        provider=provider,
        images=images,
        options=options,
        baseline=baseline,
    )


def _baseline(fix: Verdict, nothing: Verdict) -> float:
    for verdict, what in ((fix, "its own solution"), (nothing, "no work at all")):
        if verdict.outcome is not Outcome.SCORED:
            told = verdict.failure.message if verdict.failure is not None else str(verdict.outcome)
            message = f"{verdict.task_id}: {what} is not scored, so nothing can be said of cheats: {told}"
            raise TaskError(" ".join(message.split())[:1000])
    reward, least = fix.reward or 0.0, nothing.reward or 0.0
    if not reward > least:
        message = f"{fix.task_id}: its own solution earns {reward:g}, and no work {least:g}: mend the task first"
        raise TaskError(message)
    return least


def apply_to_workspace(archive: bytes, patch: bytes) -> bytes:
    """Return a workspace with a diff applied to it, as an archive.

    Raises:
        TaskError: The diff is none, does not apply, or makes something else than regular files.
    """
    paths = paths_of(patch)
    files = files_of(archive)
    after = apply_diff({path: files[path] for path in paths if path in files}, patch, paths)
    return _replaced(archive, paths, {path: text for path, text in after.items() if text is not None})


def _replaced(archive: bytes, gone: Sequence[str], files: Mapping[str, bytes]) -> bytes:
    """Return an archive without some files, and with others."""
    left_out = frozenset(gone)
    changed = io.BytesIO()
    modes: dict[str, int] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as old, tarfile.open(fileobj=changed, mode="w") as new:
        for member in old:
            if member.name in left_out:
                modes[member.name] = member.mode
            else:
                new.addfile(member, old.extractfile(member) if member.isreg() else None)
        for path, content in files.items():
            made = tarfile.TarInfo(path)
            made.size, made.mode = len(content), modes.get(path, 0o644)
            new.addfile(made, io.BytesIO(content))
    return changed.getvalue()
