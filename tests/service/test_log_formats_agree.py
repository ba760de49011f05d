"""SWE-bench's own log parsers read the same from the same logs as our table of formats does."""

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from envfarm.foreign.log_formats import FORMATS

_PROGRAM = """
import json, sys
from swebench.harness.log_parsers import PARSER_REGISTRY
for name, log in json.load(sys.stdin):
    found = PARSER_REGISTRY[name](log, None)
    print(json.dumps({key: str(getattr(value, "value", value)) for key, value in found.items()}))
"""
_NAMES = (
    "t/a.py::test_one",
    "t/a.py::test_u[//a/b]",
    "t/a.py::test_g[/a/*/b]",
    "t/a.py::test_two[x-1]",
    "t/a.py::test_p[/tmp/q/z]",
    "t/b.py::C::test_x[a b]",
)
_PYTEST_LINES = (
    "PASSED {}",
    "FAILED {} - AssertionError: assert 1 == 2",
    "ERROR {}",
    "SKIPPED [3] t/a.py:12: not here",
    "XFAIL {}",
    "{} PASSED",
    "{} FAILED",
    "{} PASSED [ 50%]",
    "1 failed, 2 passed in 0.12s",
    "E   assert 1 == 2",
    "\x1b[32mPASSED\x1b[0m {}",
    "",
)
_DJANGO_LINES = (
    "test_{} (app.Case) ... ok",
    "test_{} (app.Case)\nA docstring of {} ... ok",
    "test_{} (app.Case) ... FAIL",
    "test_{} (app.Case) ... ERROR",
    "test_{} (app.Case) ... skipped 'why'",
    "FAIL: test_{} (app.Case)",
    "ERROR: test_{} (app.Case)",
    "test_{} (app.Case) ... Creating tables\nok",
    "Ran 3 tests in 0.1s",
)
_LINES = {
    "parse_log_django": _DJANGO_LINES,
    "parse_log_sympy": (
        "test_{} ok",
        "test_{} F",
        "test_{} E",
        "____ sympy/a/test_{}.py:test_{} ____",
        "tests finished",
    ),
    "parse_log_gotest": (
        "--- PASS: Test{} (0.00s)",
        "    --- FAIL: Test{}/x y (0.1s)",
        "--- SKIP: T{} (0s)",
        "ok pkg 1s",
    ),
    "parse_log_cargo": ("test a::{} ... ok", "test a::{} ... FAILED", "test a::{} ... ignored", "running 3 tests"),
    "parse_log_googletest": (
        "[       OK ] A.{} (0 ms)",
        "[  FAILED  ] A.{} (1 ms)",
        "[  FAILED  ] A.{}",
        "[----------]",
    ),
    "parse_log_tap": ("ok 1 {}", "not ok 2 {}", "# tests 2", "1..2"),
    "parse_log_vitest": (" ✓ a > {} 12ms", " × a > {}", " ↓ a > {} [skipped]", "Tests 3 passed"),  # noqa: RUF001
}


def make_logs() -> list[tuple[str, str]]:
    logs = []
    for number, name in enumerate(sorted(FORMATS) * 8):
        coins = random.Random(number)
        lines = _LINES.get(name, _PYTEST_LINES)
        tests = _NAMES if lines is _PYTEST_LINES else ("one", "two", "three")
        chosen = [coins.choice(lines) for _ in range(12)]
        log = "\n".join(line.replace("{}", coins.choice(tests)) for line in chosen)
        logs.append((name, log.replace("MouseButton", "MouseButton.LEFT")))
    return logs


@pytest.fixture(scope="module")
def swebench() -> Path:
    path = Path(__file__).with_name("test_foreign_judges.py")
    spec = importlib.util.spec_from_file_location("foreign_judges_of_formats", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder: Path = module.make_judge("swebench", "5.0.2")
    return folder / "bin" / "python"


def test_our_formats_read_what_swebench_reads(swebench: Path) -> None:
    logs = make_logs()
    done = subprocess.run(
        [swebench, "-W", "ignore", "-c", _PROGRAM], input=json.dumps(logs), capture_output=True, text=True, check=True
    )
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(theirs) == len(logs)
    for (name, log), expected in zip(logs, theirs, strict=True):
        found = {test: str(status) for test, status in FORMATS[name].parse(log).items()}
        assert found == expected, f"{name}\n{log}"
    assert sum(map(bool, theirs)) > len(logs) // 2
