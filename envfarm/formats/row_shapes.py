"""What the fields of a foreign row mean, per data set. PURE.

Known: SWE-bench (and all that kept its fields, such as Scale-SWE and OpenSWE), SWE-rebench 1 and 2, SWE-bench-Live,
Multi-SWE-bench, R2E-Gym, SWE-smith. A row of none of them is kept all the same, with what it shares with SWE-bench.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_NOT_RUNNABLE = "not runnable: its environment has to be built here and its tests have to be seen failing and passing"
_SWE_BENCH = {
    "repo": ("repo",),
    "base_commit": ("base_commit",),
    "statement": ("problem_statement",),
    "patch": ("patch",),
    "test_patch": ("test_patch",),
    "image": ("image", "image_name", "docker_image"),
    "language": ("language",),
}
_TEST_FIELDS = {"fail_to_pass": ("FAIL_TO_PASS",), "pass_to_pass": ("PASS_TO_PASS",)}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known about a row.

    Attributes:
        shape: The data set whose fields it has.
        fail_to_pass: Tests that have to go from failing to passing.
        pass_to_pass: Tests that have to go on passing.
        fields: By fact (repo, base_commit, statement, patch, test_patch, image, language), the row's field that
            says it.
        notes: What has to be known before it is used.
    """

    shape: str
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()
    fields: Mapping[str, str]
    notes: tuple[str, ...]

    def told(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        return {"schema": "envfarm.import/1", "runnable": False, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class _Shape:
    name: str
    has: tuple[str, ...]
    """Fields that are all there."""
    lacks: tuple[str, ...] = ()
    fields: Mapping[str, tuple[str, ...]] = ()  # type: ignore[assignment] # empty: as SWE-bench
    tests: Mapping[str, tuple[str, ...]] = ()  # type: ignore[assignment] # empty: as SWE-bench
    notes: tuple[str, ...] = ()


_SHAPES = (
    _Shape(
        name="multi-swe-bench",
        has=("org", "repo", "fix_patch"),
        fields=_SWE_BENCH
        | {"patch": ("fix_patch",), "statement": ("body", "resolved_issues"), "base_commit": ("base",)},
        tests={"fail_to_pass": ("f2p_tests", "s2p_tests", "n2p_tests"), "pass_to_pass": ("p2p_tests",)},
    ),
    _Shape(
        name="r2e-gym",
        has=("expected_output_json",),
        fields=_SWE_BENCH | {"repo": ("repo_name", "repo"), "base_commit": ("commit_hash", "base_commit")},
        tests={"pass_to_pass": ("expected_output_json",)},
        notes=("its expected outcomes do not say which tests failed before: only running them at the base does",),
    ),
    _Shape(name="swe-rebench-2", has=("image_name", "language", "interface")),
    _Shape(name="swe-rebench", has=("install_config",)),
    _Shape(
        name="swe-bench-live",
        has=("test_cmds",),
        notes=("its log_parser is source code and its commands are a shell's: text here, never run on the host",),
    ),
    _Shape(
        name="swe-smith",
        has=("patch", "FAIL_TO_PASS", "image_name"),
        lacks=("test_patch",),
        notes=("its patch makes the bug: the fix is the patch reversed",),
    ),
    _Shape(name="swe-bench", has=("instance_id", "patch", "test_patch")),
)
_UNKNOWN = _Shape(name="unknown", has=())


def read_facts(row: Mapping[str, Any]) -> Facts:
    """Return what is known about a row, whatever it holds."""
    shape = next((item for item in _SHAPES if _fits(item, row)), _UNKNOWN)
    fields = {}
    for fact, names in (shape.fields or _SWE_BENCH).items():
        found = next((name for name in names if row.get(name)), None)
        if found is not None:
            fields[fact] = found
    tests = shape.tests or _TEST_FIELDS
    lists = {name: _tests(row, tests.get(name, ())) for name in _TEST_FIELDS}
    return Facts(shape=shape.name, fields=fields, notes=(_NOT_RUNNABLE, *shape.notes), **lists)


def _fits(shape: _Shape, row: Mapping[str, Any]) -> bool:
    return all(name in row for name in shape.has) and not any(row.get(name) for name in shape.lacks)


def _tests(row: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tests of some fields: lists, JSON strings of lists, lines, or objects by test."""
    found: dict[str, None] = {}
    for name in names:
        value = row.get(name)
        if isinstance(value, str):
            value = _decoded(value)
        if isinstance(value, dict):
            outcomes = all(isinstance(outcome, str) for outcome in value.values())
            value = [test for test, outcome in value.items() if not outcomes or outcome.upper() == "PASSED"]
        if isinstance(value, list):
            found |= dict.fromkeys(item for item in value if isinstance(item, str))
    return tuple(found)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return [line for line in text.splitlines() if line.strip()]
