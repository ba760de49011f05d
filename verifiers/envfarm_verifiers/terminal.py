"""The verifier `terminal`: declarative checks on the state of a box after the work, each with a name and a weight.

The state is made again in fresh boxes: the submission is applied, then the task's `setup` commands run. Where a check
is about what runs, they may leave processes, which not every sandbox has (`LeaseRequest.keeps_background`). Such checks
come first; then every process of the submission is killed, and files are looked at as they stay. Whatever runs a
program (a command, a script, Harbor's test.sh) gets a box of its own, so that no check sees what another one changed.

Covered: programs put in front on PATH, variables, planted reward files and links in place of log folders, processes
that rewrite files later, processes that answer for `look.py`. Not covered: who may write the interpreter or the shell
of the box, which nobody can where a box is leased without Privileges.ROOT; a server that answers what checks want to
hear.
"""

import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from envfarm.errors import Attribution, RewardError, VerifierError
from envfarm.foreign.box import ROOT_PATH, Box, quoted
from envfarm.foreign.reward_files import TEST_OUTPUT, TESTS, RewardReading, make_log_folders
from envfarm.foreign.rewards import choose_reward
from envfarm.grading.contract import Judgement, VerifierInfo, VerifyRequest
from envfarm.grading.submission_patch import plan_submission
from envfarm.records.image import Folder, FolderAccess
from envfarm.records.verdict import Component
from envfarm.sandbox.contract import ENVIRONMENT, MEBIBYTE, TRUSTED, WORKSPACE, LeaseRequest, Network, Sandbox
from envfarm_verifiers.patch_application import apply_patch
from envfarm_verifiers.terminal_checks import (
    CONFIG_SCHEMA,
    LIVE_KINDS,
    RUN_KINDS,
    STILL_KINDS,
    Check,
    Finding,
    judge_run,
    judge_seen,
    parse_checks,
    reward_of,
)
from envfarm_verifiers.test_run import trusted_folder

_INTERPRETERS = (f"{ENVIRONMENT}/bin/python", "/usr/bin/python3", "/usr/local/bin/python3")
_PATH = f"{ENVIRONMENT}/bin:{ROOT_PATH}"
_SETUP_SECONDS, _LOOK_SECONDS = 120.0, 120.0
_REPORT_BYTES = 64 * MEBIBYTE
_MISSING_EXITS = frozenset({126, 127})
_TOLD_BYTES = 500
_LOGS = "/logs"


class TerminalVerifier:
    """Scores the weighted share of the task's checks that are content."""

    @property
    def info(self) -> VerifierInfo:
        """What this verifier declares of itself."""
        return VerifierInfo(
            name="terminal",
            version="1",
            needs=frozenset({"sandbox"}),
            config_schema=CONFIG_SCHEMA,
            budget_seconds=900.0,
            deterministic=True,
        )

    async def verify(self, request: VerifyRequest) -> Judgement:
        """Judge one submission.

        Raises:
            BoundaryError: A box is lost or cannot be made, or the task's checks are wrong.
        """
        checks = parse_checks(request.config)
        plan = plan_submission(request.submission.patch, request.package.task.tests.protected)
        if plan.refusal is not None:
            return _refused("patch", plan.refusal)
        findings = await _Judging(request=request, patch=plan.kept_patch).find(checks)
        if isinstance(findings, Refusal):
            return _refused(findings.gate, findings.why)
        components = tuple(
            Component(
                name=check.name,
                value=findings[check.name].value,
                weight=check.weight,
                rationale=findings[check.name].rationale,
            )
            for check in checks
        )
        reward = reward_of(checks, findings, require_all=bool(request.config.get("require_all")))
        return Judgement(reward=reward, components=components)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why the state that is to be checked does not come about, which only the submission can have caused.

    Attributes:
        gate: Name of the component that says so.
        why: In words.
    """

    gate: str
    why: str


@dataclass(frozen=True, kw_only=True)
class _Judging:
    """One judgement in progress."""

    request: VerifyRequest
    patch: bytes = field(repr=False)

    async def find(self, checks: Sequence[Check]) -> dict[str, Finding] | Refusal:
        """Return the answer to each check, by name."""
        findings: dict[str, Finding] = {}
        looking = [check for check in checks if check.kind not in RUN_KINDS]
        if looking:
            seen = await self._look(looking)
            if isinstance(seen, Refusal):
                return seen
            findings |= seen
        for check in checks:
            if check.kind in RUN_KINDS:
                found = await (self._run_for_rewards(check) if check.kind == "rewards" else self._run(check))
                if isinstance(found, Refusal):
                    return found
                findings[check.name] = found
        return findings

    @asynccontextmanager
    async def _box(self, *folders: Folder, alive: bool) -> AsyncIterator[Box | Refusal]:
        """Give a fresh box in the state that is to be checked.

        Args:
            folders: More folders of this machine.
            alive: Whether what `setup` started runs on; else it has ended with its command.
        """
        lease = LeaseRequest(
            image=self.request.image,
            folders=(trusted_folder(), *folders),
            network=Network.NONE,
            keeps_background=alive,
            labels={"task": self.request.package.task.task_id},
        )
        async with self.request.lease(lease) as sandbox:
            box = Box(sandbox=sandbox, root=sandbox, working_directory=WORKSPACE, env={"PATH": _PATH})
            applied = await apply_patch(sandbox, self.patch)
            if not applied.applied:
                yield Refusal(gate="patch", why=applied.message)
                return
            yield await self._set_up(sandbox) or box

    async def _set_up(self, sandbox: Sandbox) -> Refusal | None:
        config = self.request.config
        seconds = float(config.get("setup_timeout_seconds", _SETUP_SECONDS))
        for command in config.get("setup", ()):
            result = await sandbox.exec(("/bin/sh", "-c", command), env={"PATH": _PATH}, timeout_seconds=seconds)
            if result.exit_code != 0:
                told = result.stderr[-_TOLD_BYTES:].decode("utf-8", "replace").strip()
                end = "its time was up" if result.timed_out else f"exit code {result.exit_code}"
                return Refusal(gate="setup", why=f"{command}: {end}: {told}")
        return None

    async def _look(self, checks: Sequence[Check]) -> dict[str, Finding] | Refusal:
        """Return the answers to all that only looks, from one box: what runs first, then what stays."""
        living = [check for check in checks if check.kind in LIVE_KINDS]
        async with self._box(alive=bool(living)) as box:
            if isinstance(box, Refusal):
                return box
            findings = await _look(box, living)
            problem = await _quieten(box)
            if problem is not None:
                return problem
            return findings | await _look(box, [check for check in checks if check.kind in STILL_KINDS])

    async def _run(self, check: Check) -> Finding | Refusal:
        """Return the answer of a command or script, from a box of its own."""
        async with self._box(alive=bool(check.wanted.get("alive"))) as box:
            if isinstance(box, Refusal):
                return box
            argv: Sequence[str] = check.wanted.get("argv", ())
            if check.kind == "script":
                argv = [await self._place(box, check.wanted["path"])]
            result = await box.sandbox.exec(argv, env=box.env, timeout_seconds=check.timeout_seconds)
        return judge_run(check, result)

    async def _place(self, box: Box, path: str) -> str:
        """Put a script of the task's at a place that nobody knew before; return it."""
        place = PurePosixPath("/tmp") / f"envfarm-{secrets.token_hex(16)}" / PurePosixPath(path).name  # noqa: S108 -- inside
        await box.sandbox.write_file(place, self._file(path), mode=0o755)
        return str(place)

    async def _run_for_rewards(self, check: Check) -> Finding | Refusal:
        """Return the answer of a script under Harbor's contract, tests/ of the task beside it."""
        self._file(check.wanted["path"])
        with tempfile.TemporaryDirectory(prefix="envfarm-terminal-") as folder:
            folders = []
            for target in (_LOGS, str(TESTS)):
                place = Path(folder) / target.strip("/")
                place.mkdir(mode=0o777)
                folders.append(Folder(source=str(place), target=target, access=FolderAccess.COPY_ON_WRITE))
            async with self._box(*folders, alive=bool(check.wanted.get("alive"))) as box:
                if isinstance(box, Refusal):
                    return box
                await make_log_folders(box)
                for path, content in self.request.package.files.items():
                    if path.startswith("tests/"):
                        await box.sandbox.write_file(TESTS / path.removeprefix("tests/"), content, mode=0o755)
                script = quoted(TESTS / check.wanted["path"].removeprefix("tests/"))
                result = await box.run(f"({script}) > {TEST_OUTPUT} 2>&1", timeout_seconds=check.timeout_seconds)
                if result.timed_out:
                    return Finding(value=0.0, rationale="its time was up")
                return await _reward(check, box)

    def _file(self, path: str) -> bytes:
        found = self.request.package.files.get(path)
        if found is None:
            message = f"{path}: a check names it, and the task has no such file"
            raise VerifierError(message, attribution=Attribution.TASK)
        return found


async def _reward(check: Check, box: Box) -> Finding:
    """Return what the script wrote, between 0 and 1.

    Raises:
        RewardError: There is no reward, or it is none.
        VerifierError: It is no share of 1.
    """
    try:
        value = choose_reward(await RewardReading().read(box), check.wanted.get("key"))
    except RewardError as error:
        if error.attribution is Attribution.POLICY:
            return Finding(value=0.0, rationale=str(error))
        raise
    if not 0.0 <= value <= 1.0:
        message = f"{check.wanted['path']} wrote the reward {value:g}: a check is worth 0 to 1"
        raise VerifierError(message, attribution=Attribution.TASK)
    return Finding(value=value, rationale=f"{check.wanted['path']} wrote {value:g}")


async def _quieten(box: Box) -> Refusal | None:
    """Kill whatever the submission left running; return why that cannot be done."""
    try:
        await box.kill_all()
    except VerifierError as error:
        return Refusal(gate="quiet", why=f"its processes cannot be ended: {error}")
    return None


async def _look(box: Box, checks: Sequence[Check]) -> dict[str, Finding]:
    """Return the answers to checks that only look."""
    if not checks:
        return {}
    seen = await _seen(box.sandbox, [check.question() for check in checks])
    if seen is None:
        disturbed = Finding(value=0.0, rationale="the look at the box was disturbed by what runs in it")
        return {check.name: disturbed for check in checks}
    return {check.name: judge_seen(check, answer) for check, answer in zip(checks, seen, strict=True)}


async def _seen(sandbox: Sandbox, questions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """Return what `look.py` saw; None where its report is not whole, or not its own.

    Raises:
        VerifierError: The box has no Python.
    """
    nonce = secrets.token_hex(16)
    job = json.dumps({"nonce": nonce, "questions": questions}).encode()
    for interpreter in _INTERPRETERS:
        result = await sandbox.exec(
            (interpreter, "-I", "-S", f"{TRUSTED}/look.py"),
            cwd=PurePosixPath("/"),
            stdin=job,
            timeout_seconds=_LOOK_SECONDS + sum(float(item.get("within_seconds", 0)) for item in questions),
            report_limit_bytes=_REPORT_BYTES,
        )
        if result.exit_code not in _MISSING_EXITS:
            return _read_report(result.report, nonce, len(questions)) if result.exit_code == 0 else None
    message = "there is no Python in the task's image, and its checks are answered by one"
    raise VerifierError(message, attribution=Attribution.TASK)


def _read_report(report: bytes, nonce: str, count: int) -> list[Mapping[str, Any]] | None:
    try:
        told = json.loads(report)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or told.get("nonce") != nonce:
        return None
    seen = told.get("seen")
    fits = isinstance(seen, list) and len(seen) == count and all(isinstance(item, dict) for item in seen)
    return list(seen) if fits and isinstance(seen, list) else None


def _refused(gate: str, why: str) -> Judgement:
    return Judgement(reward=0.0, components=(Component(name=gate, value=0.0, rationale=why),))
