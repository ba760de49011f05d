"""The verifier `unit_tests`: the submission's own part, the hidden tests, and layers against code that fights back.

The submitted code is imported by the process that runs the tests, so nothing that this process says is proof by itself.
One whole run with every test decides what an honest submission is worth. Where a task was calibrated, that run is
watched, its expected values are compared outside, and tests that cannot pass stand in it; if it passes all of that,
small runs follow in which each deciding test is real or altered by a coin that no box sees (`mixed_plan`).

Not covered: see docs/grading.md, "What this does not prove".
"""

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import anyio
import msgspec

from envfarm.errors import Attribution, SandboxLostError, VerifierError
from envfarm.grading.contract import Judgement, VerifierInfo, VerifyRequest
from envfarm.grading.finished_runs import FinishedRuns
from envfarm.grading.submission_patch import plan_submission
from envfarm.records.task import Task
from envfarm.records.test_report import TestOutcome, TestReport
from envfarm.records.trust import ProtectedTest
from envfarm_verifiers.box_run import BoxRequest, BoxRun, run_in_box
from envfarm_verifiers.canaries import Canaries, add_canaries
from envfarm_verifiers.checks import judge, passes
from envfarm_verifiers.coins import SEED_BYTES, Draw, draws, shuffled
from envfarm_verifiers.evidence import RunEvidence
from envfarm_verifiers.mixed_judge import judge_mixed_runs
from envfarm_verifiers.mixed_plan import MixedRun, definitions_of, plan_mixed_runs, prefix_of
from envfarm_verifiers.test_command import TestCommand
from envfarm_verifiers.test_files import apply_edits, read_reference
from envfarm_verifiers.test_run import TestRun
from envfarm_verifiers.trust_file import read_trust
from envfarm_verifiers.value_judge import judge_values

_CONFIG_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "stop_at_first_failure": {"type": "boolean"},
        "deciding_first": {"type": "boolean"},
        "run_timeout_seconds": {"type": "number", "exclusiveMinimum": 0},
    },
}
_OUTPUT_TAIL_BYTES = 65536
_SIDE_BY_SIDE = 2
_TRIES = 2
_SEED = "seed"
_LEAST_SMALL_SECONDS, _SLACK = 30.0, 5.0


class UnitTestsVerifier:
    """Scores 1.0 when every test that has to pass passes, in a report that nobody can have made up, else 0.0."""

    @property
    def info(self) -> VerifierInfo:
        """What this verifier declares of itself."""
        return VerifierInfo(
            name="unit_tests",
            version="3",
            needs=frozenset({"sandbox"}),
            config_schema=_CONFIG_SCHEMA,
            budget_seconds=900.0,
            deterministic=True,
        )

    async def verify(self, request: VerifyRequest) -> Judgement:
        """Judge one submission.

        Raises:
            BoundaryError: The box is lost or cannot be made, the hidden tests cannot be placed, git is missing.
            TaskError: The task's hidden part is damaged.
        """
        tests = request.package.task.tests
        if not tests.fail_to_pass:
            message = "the task names no test that its fix has to mend"
            raise VerifierError(message, attribution=Attribution.TASK)
        evidence = RunEvidence(
            tests=tests,
            plan=plan_submission(request.submission.patch, tests.protected),
            level=request.level,
            trust=read_trust(request.package),
        )
        if evidence.plan.refusal is None:
            grading = _Grading(request=request, evidence=evidence, seed=_seed(request.finished))
            evidence = await grading.run()
        reward, components = judge(evidence)
        return Judgement(reward=reward, components=components, evidence=_blobs(evidence))


@dataclass(frozen=True, kw_only=True)
class _Grading:
    """The runs of one judgement; all its coins follow from the seed, and a kept run belongs to the seed it had."""

    request: VerifyRequest
    evidence: RunEvidence
    seed: bytes = field(repr=False)

    async def run(self) -> RunEvidence:
        """Return all that was seen: the whole run, and where it passes the small ones."""
        if self.request.config.get("deciding_first"):
            seen = await self._deciding_run()
            if not passes(seen):
                return seen
        seen = await self.whole_run()
        if not passes(seen):
            return seen
        tests = self._protected()
        plans = plan_mixed_runs(tests, self.request.level.mixed_runs, self._draws("plan"))
        if not plans:
            return seen
        reports = await self._small_runs(tests, plans, seen.seen()[1].wall_seconds)
        return replace(seen, mixed=judge_mixed_runs(tests, plans, reports))

    def _draws(self, purpose: str) -> Draw:
        return draws(self.seed, purpose)

    async def _run(
        self, name: str, command: TestCommand, *, altered: Mapping[str, bytes], checks_files: bool = False
    ) -> BoxRun:
        """Return what a run shows; one that an earlier attempt has finished is not made again."""
        kept = self._kept(name)
        if kept is not None:
            return kept
        found = await run_in_box(self._box(), command, altered=altered, checks_files=checks_files)
        self._keep(name, found)
        return found

    def _kept(self, name: str) -> BoxRun | None:
        content = self.request.finished.load(self._place_of(name))
        try:
            return None if content is None else msgspec.json.decode(content, type=BoxRun)
        except msgspec.DecodeError:
            return None

    def _keep(self, name: str, found: BoxRun) -> None:
        """Keep what a run showed, without the bytes that its report was read from."""
        if found.run is not None:
            found = replace(found, run=replace(found.run, result=replace(found.run.result, report=b"")))
        try:
            content = msgspec.json.encode(found)
        except (ValueError, OverflowError):
            return  # a submission's report holds what has no such form: it is judged as ever, and kept by nobody
        self.request.finished.save(self._place_of(name), content)

    def _place_of(self, name: str) -> str:
        return f"{name}-{hashlib.sha256(self.seed).hexdigest()[:16]}"

    def _protected(self) -> tuple[ProtectedTest, ...]:
        return self.evidence.trust.tests if self.evidence.trust is not None else ()

    def _box(self) -> BoxRequest:
        request = self.request
        return BoxRequest(
            package=request.package, image=request.image, lease=request.lease, patch=self.evidence.plan.kept_patch
        )

    async def _deciding_run(self) -> RunEvidence:
        """Return what a run of the tests that the fix has to mend shows, without all others."""
        ids = self.evidence.tests.fail_to_pass
        tests = msgspec.structs.replace(self.evidence.tests, pass_to_pass=())
        narrowed = replace(self, evidence=replace(self.evidence, tests=tests))
        return await narrowed.whole_run("deciding", only=tuple(dict.fromkeys(prefix_of(name) for name in ids)))

    async def whole_run(self, name: str = "whole", only: tuple[str, ...] = ()) -> RunEvidence:
        """Return what one watched run shows, with values compared: of all tests, or of some definitions only."""
        trust, level = self.evidence.trust, self.request.level
        command = replace(make_command(self.request.package.task, self.request.config), only_definitions=only)
        altered: Mapping[str, bytes] = {}
        added = Canaries(ids=(), files={})
        if trust is not None:
            command = replace(command, watched=level.watches)
            if level.hides:
                command = replace(command, asking=True)
                reference = read_reference(self._box().reference())
                altered, added = _hidden(trust.tests, trust.canary_files, reference, self._draws(f"{name} canaries"))
        watches = level.watches and trust is not None
        found = await self._run(name, command, altered=altered, checks_files=watches)
        seen = replace(
            self.evidence,
            applied=found.applied,
            placed=found.placed,
            run=found.run,
            canaries=added.ids,
            changed_files=found.changed_files,
        )
        if found.run is None or not command.asking:
            return seen
        return await self._with_values(seen, found.run, f"{name}_undecided")

    async def _with_values(self, seen: RunEvidence, run: TestRun, name: str) -> RunEvidence:
        """Return the evidence with values compared; where some are no plain data, an ordinary run decides."""
        tests = self._protected()
        judged = judge_values(run.report, tests)
        seen = replace(seen, run=replace(run, report=judged.report), compared_values=judged.compared)
        if not judged.undecided or not passes(seen):
            return seen
        unclear = [tests[number] for number in judged.undecided]
        ids = {name for test in unclear for name in test.ids}
        command = make_command(self.request.package.task, self.request.config)
        if all(test.runs_alone for test in unclear):
            command = replace(command, only_definitions=tuple(dict.fromkeys(prefix_of(name) for name in ids)))
        found = await self._run(name, command, altered={})
        outcomes = dict(judged.report.outcomes)
        report = found.run.report if found.run is not None else TestReport()
        outcomes |= {name: report.outcomes.get(name, TestOutcome.MISSING) for name in ids if name in outcomes}
        decided = msgspec.structs.replace(judged.report, outcomes=outcomes)
        return replace(seen, run=replace(run, report=decided), undecided=tuple(test.name for test in unclear))

    async def _small_runs(
        self, tests: Sequence[ProtectedTest], plans: Sequence[MixedRun], whole_seconds: float
    ) -> list[TestReport]:
        level, reference = self.request.level, read_reference(self._box().reference())
        task = self.request.package.task
        definitions = definitions_of(tests)
        wanted = {name.split("::", 1)[0] for name in definitions}
        plain = make_command(task, {})
        command = replace(
            plain,
            run_timeout_seconds=min(plain.run_timeout_seconds, max(_LEAST_SMALL_SECONDS, whole_seconds * _SLACK)),
            paths=tuple(path for path in task.tests.paths if path in wanted),
            only_definitions=definitions,
            light=True,
        )
        order = list(range(len(plans)))
        if level.sequential:
            order = shuffled(len(plans), self._draws("order"))
        works = [
            partial(self._small_run, f"small_{number}", command, plans[number].files(tests, reference))
            for number in order
        ]
        done = await _all(works, 1 if level.sequential else _SIDE_BY_SIDE)
        return [report for _, report in sorted(zip(order, done, strict=True), key=lambda pair: pair[0])]

    async def _small_run(self, name: str, command: TestCommand, altered: Mapping[str, bytes]) -> TestReport:
        """Return the report of one small run; a box that is lost, or a run that breaks off, is tried once more.

        A run that hangs is not: it had many times what the whole run took.
        """
        found = self._kept(name)
        for number in range(_TRIES if found is None else 0):
            try:
                found = await run_in_box(self._box(), command, altered=altered)
            except SandboxLostError:
                if number == _TRIES - 1:
                    raise
                continue
            if _is_complete(found):
                break
        if found is None or found.run is None:
            return TestReport()
        self._keep(name, found)
        return found.run.report


def _is_complete(found: BoxRun) -> bool:
    """Say whether another try cannot show more: the session ended as it has to, or the run's time is up."""
    if found.run is None:
        return False
    report = found.run.report
    return found.run.result.timed_out or (report.session_ended and not report.problems)


def _seed(finished: FinishedRuns) -> bytes:
    """Return what all coins follow from; it stays when a broken-off grading goes on: a crash gives no second toss."""
    kept = finished.load(_SEED)
    if kept is not None and len(kept) == SEED_BYTES:
        return kept
    seed = secrets.token_bytes(SEED_BYTES)
    finished.save(_SEED, seed)
    return seed


def make_command(task: Task, config: Mapping[str, Any]) -> TestCommand:
    """Return the plain run of a task's tests."""
    tests = task.tests
    return TestCommand(
        paths=tests.paths,
        plugins=task.environment.test_plugins,
        options=tests.options,
        test_timeout_seconds=tests.test_timeout_seconds,
        run_timeout_seconds=float(config.get("run_timeout_seconds", tests.run_timeout_seconds)),
        stop_ids=(*tests.fail_to_pass, *tests.pass_to_pass) if config.get("stop_at_first_failure") else (),
        environment_variables=task.environment.environment_variables,
        test_code=tests.protected,
    )


def _hidden(
    tests: Sequence[ProtectedTest], canary_files: Sequence[str], reference: Mapping[str, bytes], draw: Draw
) -> tuple[dict[str, bytes], Canaries]:
    """Return the test files that ask instead of telling, and that hold canaries."""
    asking = apply_edits(reference, (edit for test in tests for check in test.checks for edit in check.edits))
    added = add_canaries(canary_files, {**reference, **asking}, draw)
    return {**asking, **added.files}, added


async def _all(works: Sequence[Callable[[], Awaitable[TestReport]]], at_once: int) -> list[TestReport]:
    """Return the results of all works, in order."""
    results: dict[int, TestReport] = {}
    room = anyio.CapacityLimiter(at_once)

    async def do(number: int, work: Callable[[], Awaitable[TestReport]]) -> None:
        async with room:
            results[number] = await work()

    async with anyio.create_task_group() as group:
        for number, work in enumerate(works):
            group.start_soon(do, number, work)
    return [results[number] for number in range(len(works))]


def _blobs(evidence: RunEvidence) -> dict[str, bytes]:
    """Return what people may want to read; nothing of what is kept outside is in it."""
    if evidence.run is None:
        return {}
    result = evidence.run.result
    report = msgspec.structs.replace(evidence.run.report, asked=(), code_hashes={}, origins={})
    return {
        "report.json": msgspec.json.encode(report),
        "stdout.txt": result.stdout[-_OUTPUT_TAIL_BYTES:],
        "stderr.txt": result.stderr[-_OUTPUT_TAIL_BYTES:],
    }
