"""The terminal verifier in the local jail: the state is looked at as it is, and no check changes what another sees."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

from envfarm.errors import VerifierError
from envfarm.grading.conformance import CASES, ConformanceMaterial
from envfarm.grading.grade import load_verifier
from envfarm.records.verdict import Outcome, Verdict
from envfarm.sandbox.local.provider import open_local_provider

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

PYTHON = "/opt/venv/bin/python"


Run = Callable[..., Verdict]


@pytest.fixture
def run(tiny_task: "TinyTask", terminal_live: ModuleType) -> Run:
    return partial(terminal_live.run_terminal, tiny_task, open_local_provider)


def values(verdict: Verdict) -> dict[str, float]:
    assert verdict.outcome is Outcome.SCORED, verdict.failure
    return {component.name: component.value for component in verdict.components}


def test_files_are_looked_at_as_they_are(run: Run) -> None:
    text = "three\n"
    checks = [
        {"name": "there", "kind": "file", "path": "/workspace/out.txt", "weight": 3},
        {"name": "text", "kind": "file", "path": "/workspace/out.txt", "content": text},
        {
            "name": "hash",
            "kind": "file",
            "path": "/workspace/out.txt",
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        },
        {"name": "mode", "kind": "file", "path": "/workspace/out.txt", "mode": "0600"},
        {"name": "gone", "kind": "file", "path": "/workspace/src", "type": "missing"},
        {"name": "folder", "kind": "file", "path": "/workspace/src", "type": "folder"},
    ]
    verdict = run({"out.txt": text}, {"checks": checks})
    assert values(verdict) == {"there": 1, "text": 1, "hash": 1, "mode": 0, "gone": 0, "folder": 1}
    assert verdict.reward == 6 / 8
    assert run({"out.txt": text}, {"checks": checks, "require_all": True}).reward == 0.0


def test_a_check_never_sees_what_another_one_changed(run: Run) -> None:
    count = "echo x >> /workspace/log; wc -l < /workspace/log"
    checks = [
        {"name": "first", "kind": "command", "argv": ["/bin/sh", "-c", count], "number": 1},
        {"name": "second", "kind": "command", "argv": ["/bin/sh", "-c", count], "number": 1},
        {"name": "script", "kind": "script", "path": "tests/check.py"},
        {"name": "file", "kind": "file", "path": "/workspace/log", "type": "missing"},
    ]
    script = b"#!/opt/venv/bin/python\nimport os, sys\nsys.exit(os.path.exists('/workspace/log'))\n"
    verdict = run({"a": "b\n"}, {"checks": checks}, check__py=script)
    assert values(verdict) == dict.fromkeys(("first", "second", "script", "file"), 1.0)


def test_harbors_script_is_one_check_of_them(tiny_task: "TinyTask", run: Run) -> None:
    script = b"#!/bin/sh\ngrep -q 'a + b' src/tiny/__init__.py && r=0.5 || r=0\necho $r > /logs/verifier/reward.txt\n"
    checks = [{"name": "harbor", "kind": "rewards", "path": "tests/test.sh"}]
    assert run({"src/tiny/__init__.py": tiny_task.fixed}, {"checks": checks}, test__sh=script).reward == 0.5
    assert run({"a": "b\n"}, {"checks": checks}, test__sh=script).reward == 0.0
    verdict = run({"a": "b\n"}, {"checks": checks}, test__sh=b"#!/bin/sh\n")
    assert verdict.outcome is Outcome.UNSCORED
    assert verdict.failure is not None
    assert verdict.failure.code == "reward_missing"


REWRITE = """\
import os, time
if os.fork() == 0:
    os.setsid()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if not os.path.exists('/workspace/forged.txt'):
                open('/workspace/forged.txt', 'w').write('late')
            open('/logs/verifier/reward.json', 'w').write('{"reward": 1}')
        except OSError:
            pass
"""


def test_what_is_left_running_writes_no_state_once_it_is_looked_at(run: Run) -> None:
    config = {
        "setup": [f"{PYTHON} work.py", "sleep 0.3; rm -f forged.txt"],
        "checks": [
            {
                "name": "quiet",
                "kind": "command",
                "argv": ["/bin/sh", "-c", "rm -f forged.txt; sleep 0.3; ls forged.txt"],
            },
            {"name": "harbor", "kind": "rewards", "path": "tests/test.sh"},
        ],
    }
    script = b"#!/bin/sh\nsleep 0.3\necho '{\"reward\": 0}' > /logs/verifier/reward.json\nsleep 0.3\n"
    verdict = run({"work.py": REWRITE}, config, test__sh=script)
    assert values(verdict) == {"quiet": 0.0, "harbor": 0.0}


@pytest.mark.parametrize("place", ["python", "bin/python", "ls", "grep", "sh"])
def test_programs_of_the_submission_are_in_front_of_nothing(run: Run, place: str) -> None:
    checks = [
        {"name": "shell", "kind": "script", "path": "tests/check.sh"},
        {"name": "program", "kind": "command", "argv": ["ls", "/no/such/place"]},
    ]
    shim = "#!/bin/sh\nexit 0\n"
    script = b"#!/bin/sh\ngrep -q mended /workspace/src/tiny/__init__.py\n"
    verdict = run({place: shim}, {"checks": checks, "setup": [f"chmod +x {place}"]}, check__sh=script)
    assert values(verdict) == {"shell": 0.0, "program": 0.0}


def test_a_setup_that_fails_and_a_diff_that_leads_out_score_0_with_the_reason(run: Run) -> None:
    checks = [{"name": "any", "kind": "file", "path": "/workspace", "type": "folder"}]
    verdict = run({"a": "b\n"}, {"checks": checks, "setup": ["echo no server >&2; exit 3"]})
    assert (verdict.reward, [item.name for item in verdict.components]) == (0.0, ["setup"])
    assert "no server" in verdict.components[0].rationale


@pytest.mark.parametrize("case", ["answers", "hunted", "ended"])
def test_what_runs_is_seen_and_ended(case: str, run: Run, terminal_live: ModuleType) -> None:
    getattr(terminal_live, f"see_{case}")(run, PYTHON)


def test_checks_that_are_wrong_are_the_tasks_failure(run: Run) -> None:
    verdict = run({"a": "b\n"}, {"checks": [{"name": "a", "kind": "script", "path": "tests/none.sh"}]})
    assert verdict.outcome is Outcome.UNSCORED
    assert verdict.failure is not None
    assert (verdict.failure.code, verdict.failure.attribution) == (VerifierError.code, "task")


@pytest.mark.parametrize("name", CASES)
def test_the_terminal_verifier_keeps_the_contract(name: str, tiny_task: "TinyTask") -> None:
    program = "import sys; sys.path.insert(0, 'src'); import tiny; print(tiny.add(2, 3))"
    checks = [{"name": "adds", "kind": "command", "argv": [PYTHON, "-c", program], "stdout": "5"}]
    task = msgspec.structs.replace(tiny_task.package.task, verifier="terminal", verifier_config={"checks": checks})
    package = replace(tiny_task.package, task=task)

    async def go() -> None:
        async with open_local_provider({}) as provider:
            material = ConformanceMaterial(package=package, image=tiny_task.image, provider=provider)
            await CASES[name](load_verifier("terminal"), material)

    anyio.run(go)
