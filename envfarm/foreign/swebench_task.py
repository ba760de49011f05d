"""Runs a task of a SWE-bench task repository: the diff is applied in its image, eval.sh is run, its log is read."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Self

from envfarm.errors import TaskError, VerifierError
from envfarm.foreign.box import Box, FoundImage, open_box
from envfarm.foreign.harbor_plan import BoxPlan, NetworkPolicy
from envfarm.foreign.log_formats import LogFormat, format_named
from envfarm.foreign.request import ForeignJudgement, JudgeRequest, WorkKind
from envfarm.foreign.step_result import output_component
from envfarm.foreign.swebench_judge import START, TestLists, judge_log
from envfarm.foreign.workspace import replace_workspace
from envfarm.formats.foreign_rows import ForeignRow
from envfarm.formats.swebench_repository import read_folder
from envfarm.records.verdict import Component
from envfarm.sandbox.contract import GIBIBYTE, MEBIBYTE, ExecResult, Limits, Network

_EVAL, _GOLD, _DOCKERFILE = "eval.sh", "gold.patch", "Dockerfile"
_HIDDEN = frozenset({"tests.json", "test.patch", _GOLD, _EVAL, "hints.md"})
_TESTBED = PurePosixPath("/testbed")
"""Where SWE-bench's own images have the repository."""
_EVAL_SECONDS, _BUILD_SECONDS, _APPLY_SECONDS = 1800.0, 3600.0, 120.0
_LIMITS = Limits(
    disk_bytes=10 * GIBIBYTE, file_size_bytes=10 * GIBIBYTE, process_count=2048, output_bytes=64 * MEBIBYTE
)
_PATCH = PurePosixPath("/tmp/.envfarm.patch")  # noqa: S108 -- inside the box
_APPLY = """
git -c safe.directory='*' apply -p1 --whitespace=nowarn "$1" && exit 0
git -c safe.directory='*' apply -p1 --whitespace=nowarn --check --reverse "$1" 2>/dev/null && exit 0
patch --batch --fuzz=5 -p1 -i "$1"
"""
"""As the benchmark does it: exactly, else with the lines around it shifted or changed a little."""
_TOLD_BYTES = 1000


def read_swebench_task(folder: Path) -> "SweBenchTask":
    """Return the task in a folder of a task repository.

    Raises:
        TaskError: A file is missing or damaged, or it names a parser that is not known here.
    """
    row, files, programs = read_folder(folder)
    if _EVAL not in files:
        message = f"{_EVAL}: it is missing in {folder}: the task has nothing that judges"
        raise TaskError(message)
    if not row.fail_to_pass:
        message = "tests.json: it names no test in FAIL_TO_PASS"
        raise TaskError(message)
    eval_type = str(row.row.get("eval_type") or "pass_and_fail")
    if eval_type not in {"pass_and_fail", "fail_only"}:
        message = f"task.yaml: its eval_type {eval_type[:40]!r} is neither pass_and_fail nor fail_only"
        raise TaskError(message)
    return SweBenchTask(
        row=row,
        files=files,
        programs=programs,
        log_format=format_named(str(row.row.get("log_parser"))),
        tests=TestLists(
            fail_to_pass=row.fail_to_pass, pass_to_pass=row.pass_to_pass, counts_silence=eval_type == "fail_only"
        ),
    )


@dataclass(frozen=True, kw_only=True)
class SweBenchTask:
    """A task of a SWE-bench task repository that can be judged.

    Attributes:
        row: What is said about it.
        files: All of its folder.
        programs: Those with the executable bit.
        log_format: What its runner prints.
        tests: Which tests decide.
        eval_timeout_seconds: Bound on eval.sh.
    """

    row: ForeignRow
    files: Mapping[str, bytes] = field(repr=False)
    programs: frozenset[str]
    log_format: LogFormat = field(repr=False)
    tests: TestLists = field(repr=False)
    eval_timeout_seconds: float = _EVAL_SECONDS

    @property
    def task_id(self) -> str:
        """Its name."""
        return self.row.name

    @property
    def digest(self) -> str:
        """``sha256:`` and 64 hex digits over its files."""
        digest = hashlib.sha256()
        for path in sorted(self.files):
            digest.update(
                f"{path}\0{hashlib.sha256(self.files[path]).hexdigest()}\n".encode("utf-8", "surrogateescape")
            )
        return f"sha256:{digest.hexdigest()}"

    @property
    def verifier(self) -> str:
        """What judges it."""
        return "swebench"

    async def judge(self, request: JudgeRequest) -> ForeignJudgement:
        """Judge the work: all of FAIL_TO_PASS pass, and nothing of PASS_TO_PASS broke.

        Raises:
            BoundaryError: There is no judgement, and whose fault that is.
            UserError: The task or the request is wrong.
        """
        async with self.open_box(request) as box:
            problem = await self._work(box, request)
            if problem is not None:
                component = Component(name="applied", value=0.0, rationale=problem)
                return ForeignJudgement(reward=0.0, components=(component,))
            result = await self._evaluate(box)
        return self._judgement(result)

    def bounded(self, seconds: float) -> Self:
        """Return the same task, whose eval.sh has at most so long."""
        return replace(self, eval_timeout_seconds=min(self.eval_timeout_seconds, seconds))

    @asynccontextmanager
    async def open_box(self, request: JudgeRequest) -> AsyncIterator[Box]:
        """Give a box of the task's image at its base, without network, for the length of the block."""
        found = await self.find_image(request)
        place = found.working_directory
        plan = BoxPlan(
            image_name=None,
            folder="",
            build_timeout_seconds=_BUILD_SECONDS,
            working_directory=_TESTBED if place == PurePosixPath("/") else place,
            env={},
            policy=NetworkPolicy(network=Network.NONE),
            limits=_LIMITS,
            healthcheck=None,
        )
        async with open_box(request.lease, found, plan, plan.policy, {}) as box:
            yield box

    async def find_image(self, request: JudgeRequest) -> FoundImage:
        """Return the image that the Dockerfile makes, or that is named where there is none.

        Raises:
            ImageBuildError: It is not to be had.
            TaskError: There is neither.
        """
        if _DOCKERFILE in self.files:
            kept = {path: text for path, text in self.files.items() if path not in _HIDDEN}
            return await request.images.built(kept, self.programs, timeout_seconds=_BUILD_SECONDS)
        name = self.row.row.get("image")
        if not isinstance(name, str) or not name:
            message = "task.yaml: it names no image, and there is no Dockerfile"
            raise TaskError(message)
        return await request.images.named(name, timeout_seconds=_BUILD_SECONDS)

    async def _work(self, box: Box, request: JudgeRequest) -> str | None:
        """Do the work in the box; return why it cannot be done."""
        kind, patch = request.work.kind, request.work.content
        if kind is WorkKind.WORKSPACE:
            await replace_workspace(box, request.work.content)
            return None
        if kind is WorkKind.ORACLE:
            if _GOLD not in self.files:
                message = f"{_GOLD}: it is missing, so there is no oracle to grade"
                raise TaskError(message)
            patch = self.files[_GOLD]
        return await apply_in_box(box, patch) if kind is not WorkKind.NO_OP and patch.strip() else None

    async def _evaluate(self, box: Box) -> ExecResult:
        await box.root.write_file(PurePosixPath("/eval.sh"), self.files[_EVAL], mode=0o755)
        return await box.run("exec /bin/bash /eval.sh 2>&1", timeout_seconds=self.eval_timeout_seconds)

    def _judgement(self, result: ExecResult) -> ForeignJudgement:
        if result.timed_out and START not in result.stdout.decode("utf-8", "replace"):
            message = f"eval.sh was not done within {self.eval_timeout_seconds:g} s, and did not come to its tests"
            raise VerifierError(message)
        log = result.stdout.decode("utf-8", "replace").replace("\r\n", "\n")
        if result.stdout_dropped_bytes:
            message = f"eval.sh printed {result.stdout_dropped_bytes} bytes more than are kept: its log is not whole"
            raise VerifierError(message)
        reward, components = judge_log(log, self.log_format, self.tests)
        shown = output_component("output", result.stdout)
        return ForeignJudgement(reward=reward, components=(*components, shown))


async def apply_in_box(box: Box, patch: bytes) -> str | None:
    """Apply a diff to the working directory; return what went wrong, None where nothing did.

    Raises:
        SandboxLostError: The box is gone.
    """
    await box.root.write_file(_PATCH, patch)
    result = await box.root.exec(
        ("/bin/sh", "-c", _APPLY, "sh", str(_PATCH)), cwd=box.working_directory, timeout_seconds=_APPLY_SECONDS
    )
    if result.exit_code == 0:
        return None
    told = (result.stderr + result.stdout)[-_TOLD_BYTES:].decode("utf-8", "replace").strip()
    return f"the diff does not apply: {told}"
