"""The field's usual way of grading, as a verifier: what cheats are proved against, and never what a reward comes from.

A box in which the diff is applied, the hidden tests are copied over and a script like most tasks' ``test.sh`` runs
``python -m pytest FILES`` with whatever plug-ins and configuration are found. Like in a container of the field, the
installed environment can be written to. Three ways of reading the outcome are in use, and each is tried: the exit code
of pytest, the file ``/logs/verifier/reward.json`` that the script writes (Harbor), and the status lines of the log
(SWE-bench). The reward is 1 where any of them says so; the components say which.
"""

import io
import json
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

import msgspec

from envfarm.grading.contract import Judgement, VerifierInfo, VerifyRequest
from envfarm.records.image import Folder, FolderAccess, Image
from envfarm.records.task import Task, TestPlan
from envfarm.records.verdict import Component
from envfarm.sandbox.contract import ENVIRONMENT, ExecResult, LeaseRequest, Limits, Sandbox

_LOGS = PurePosixPath("/logs")
_REWARD = _LOGS / "verifier" / "reward.json"
_SECONDS = 60.0
_APPLY = "git -c safe.directory='*' apply -p1 --whitespace=nowarn -"
_PLACE = (
    "import io, sys, tarfile, os\n"
    "with tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read())) as archive:\n"
    "    for member in archive:\n"
    "        os.makedirs(os.path.dirname(member.name) or '.', exist_ok=True)\n"
    "        open(member.name, 'wb').write(archive.extractfile(member).read())\n"
)
_TEST_SH = """\
mkdir -p /logs/verifier
python -m pytest -rA {files}
status=$?
if [ $status -eq 0 ]; then reward=1.0; else reward=0.0; fi
echo "{{\\"reward\\": $reward}}" > /logs/verifier/reward.json
exit $status
"""
_RUN = "sh /tmp/test.sh; status=$?; sleep 0.15; exit $status"
_VARIABLES = {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8", "COLUMNS": "200"}
_LIMITS = Limits(disk_bytes=256 << 20, process_count=128)
_WORDS = frozenset({"PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS"})
_TAIL = 500


class PlainVerifier:
    """Scores 1.0 where the exit code, the reward file or the log says that all is well."""

    def __init__(self, hidden_tests: Mapping[str, bytes]) -> None:
        """Take what is copied over a submission: the test files, and what else the test patch changes."""
        self._hidden_tests = hidden_tests

    @property
    def info(self) -> VerifierInfo:
        """What this verifier declares of itself."""
        return VerifierInfo(
            name="plain",
            version="1",
            needs=frozenset({"sandbox"}),
            config_schema={"type": "object"},
            budget_seconds=900.0,
            deterministic=False,
        )

    async def verify(self, request: VerifyRequest) -> Judgement:
        """Judge one submission in the usual way.

        Raises:
            BoundaryError: The box is lost or cannot be made.
        """
        task = request.package.task
        with tempfile.TemporaryDirectory(prefix="envfarm-logs-") as logs:
            lease = LeaseRequest(
                image=_writable(request.image),
                folders=(Folder(source=logs, target=str(_LOGS), access=FolderAccess.COPY_ON_WRITE),),
                limits=_LIMITS,
                labels={"task": task.task_id},
            )
            async with request.lease(lease) as box:
                problem = await _prepare(box, request.submission.patch, self._hidden_tests)
                if problem:
                    return Judgement(reward=0.0, components=(_told("prepared", problem, accepted=False),))
                script = _TEST_SH.format(files=" ".join(f"'{path}'" for path in task.tests.paths))
                await box.write_file(PurePosixPath("/tmp/test.sh"), script.encode())  # noqa: S108 -- inside the box
                seconds = float(request.config.get("run_timeout_seconds", task.tests.run_timeout_seconds))
                variables = {**_VARIABLES, **task.environment.environment_variables}
                result = await box.exec(("sh", "-c", _RUN), env=variables, timeout_seconds=seconds)
                reward = await _read_reward(box)
        return _judge(task, result, reward)


def _writable(image: Image) -> Image:
    """Return the image with an environment that a box may write to, in a copy of its own."""
    folders = tuple(
        msgspec.structs.replace(folder, access=FolderAccess.COPY_ON_WRITE)
        if folder.target == str(ENVIRONMENT)
        else folder
        for folder in image.folders
    )
    return msgspec.structs.replace(image, folders=folders)


async def _prepare(box: Sandbox, patch: bytes, tests: Mapping[str, bytes]) -> str:
    """Apply the diff and copy the tests; return what went wrong."""
    steps: list[tuple[tuple[str, ...], bytes]] = [(("sh", "-c", _APPLY), patch)] if patch.strip() else []
    steps.append(((f"{ENVIRONMENT}/bin/python", "-I", "-c", _PLACE), _pack(tests.items())))
    for command, data in steps:
        result = await box.exec(command, stdin=data, timeout_seconds=_SECONDS)
        if result.exit_code != 0:
            return result.stderr[-_TAIL:].decode("utf-8", "replace").strip() or "it did not end well"
    return ""


def _pack(files: Iterable[tuple[str, bytes]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in files:
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


async def _read_reward(box: Sandbox) -> object:
    try:
        content = await box.read_file(_REWARD, limit_bytes=4096)
        return json.loads(content)
    except (FileNotFoundError, ValueError, OSError):
        return None


def _judge(task: Task, result: ExecResult, reward: object) -> Judgement:
    ended = f"status {result.exit_code}" if result.exit_code is not None else f"signal {result.signal}"
    components = (
        _told("exit_code", ended, accepted=result.exit_code == 0),
        _told("reward_file", f"it says {reward!r}"[:_TAIL], accepted=_says_one(reward)),
        _told("log", "the status lines of the log", accepted=_log_passes(task.tests, result.stdout)),
    )
    accepted = any(component.value for component in components)
    tail = {"stdout.txt": result.stdout[-65536:], "stderr.txt": result.stderr[-65536:]}
    return Judgement(reward=float(accepted), components=components, evidence=tail)


def _says_one(reward: object) -> bool:
    value = reward.get("reward") if isinstance(reward, dict) else None
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _log_passes(tests: TestPlan, log: bytes) -> bool:
    """Say whether the last status line of every test that decides says that it passed, as SWE-bench reads it."""
    status = {}
    for line in log.decode("utf-8", "replace").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] in _WORDS:
            status[words[1]] = words[0]
    return all(status.get(name.split(" ")[0]) == "PASSED" for name in (*tests.fail_to_pass, *tests.pass_to_pass))


def _told(name: str, rationale: str, *, accepted: bool) -> Component:
    return Component(name=name, value=float(accepted), rationale=rationale)
