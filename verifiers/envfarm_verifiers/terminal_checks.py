"""The checks of the verifier `terminal`: what a task asks about a box, and what an answer means. PURE.

A check that only looks (file, process, port, http) is answered by `box_programs/look.py`; one that runs something
(command, script, rewards) by what it ran.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from envfarm.errors import Attribution, VerifierError
from envfarm.sandbox.contract import ExecResult

LIVE_KINDS, STILL_KINDS = frozenset({"process", "port", "http"}), frozenset({"file"})
RUN_KINDS = frozenset({"command", "script", "rewards"})
_NEEDED: Mapping[str, str] = {
    "file": "path",
    "process": "regex",
    "port": "port",
    "http": "url",
    "command": "argv",
    "script": "path",
    "rewards": "path",
}
_KNOWN: Mapping[str, frozenset[str]] = {
    "file": frozenset({"path", "type", "sha256", "content", "regex", "mode", "uid"}),
    "process": frozenset({"regex", "count_min", "count_max"}),
    "port": frozenset({"port", "open", "within_seconds"}),
    "http": frozenset({"url", "status", "regex", "within_seconds"}),
    "command": frozenset({"argv", "exit_code", "stdout", "regex", "number", "tolerance", "alive", "timeout_seconds"}),
    "script": frozenset({"path", "exit_code", "alive", "timeout_seconds"}),
    "rewards": frozenset({"path", "key", "alive", "timeout_seconds"}),
}
_EVERY = frozenset({"name", "kind", "weight"})
_NUMBER, _TEXT, _FLAG = {"type": "number"}, {"type": "string"}, {"type": "boolean"}
_TYPES: Mapping[str, Mapping[str, Any]] = {
    "name": _TEXT,
    "kind": {"type": "string", "enum": sorted(_KNOWN)},
    "weight": {"type": "number", "minimum": 0},
    "path": _TEXT,
    "type": {"type": "string", "enum": ["file", "folder", "link", "missing"]},
    "sha256": _TEXT,
    "content": _TEXT,
    "regex": _TEXT,
    "mode": _TEXT,
    "uid": {"type": "integer", "minimum": 0},
    "count_min": {"type": "integer", "minimum": 0},
    "count_max": {"type": "integer", "minimum": 0},
    "port": {"type": "integer", "minimum": 1},
    "open": _FLAG,
    "within_seconds": {"type": "number", "minimum": 0},
    "url": _TEXT,
    "status": {"type": "integer"},
    "argv": {"type": "array", "items": _TEXT},
    "exit_code": {"type": "integer"},
    "stdout": _TEXT,
    "number": _NUMBER,
    "tolerance": {"type": "number", "minimum": 0},
    "alive": _FLAG,
    "timeout_seconds": {"type": "number", "exclusiveMinimum": 0},
    "key": _TEXT,
}
CONFIG_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["checks"],
    "properties": {
        "setup": {"type": "array", "items": _TEXT},
        "setup_timeout_seconds": {"type": "number", "exclusiveMinimum": 0},
        "require_all": _FLAG,
        "checks": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "kind"],
                "properties": _TYPES,
            },
        },
    },
}
"""JSON Schema of the configuration that a task carries."""
_TOLD_CHARACTERS = 120
_RUN_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question about a box.

    Attributes:
        name: Of the component that answers it.
        kind: Of `LIVE_KINDS`, `STILL_KINDS` or `RUN_KINDS`.
        weight: Its share of the reward.
        wanted: The rest of what the task says, by key.
    """

    name: str
    kind: str
    weight: float
    wanted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def timeout_seconds(self) -> float:
        """Bound on what it runs."""
        return float(self.wanted.get("timeout_seconds", _RUN_SECONDS))

    def question(self) -> dict[str, Any]:
        """Return what `look.py` is asked; what is wanted stays outside, but for how to find it."""
        wanted = self.wanted
        asked = {key: wanted[key] for key in ("path", "port", "url", "within_seconds") if key in wanted}
        return {"kind": self.kind, **asked, "reads": "content" in wanted or "regex" in wanted}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer to a check: a share of 1, and why."""

    value: float
    rationale: str


def parse_checks(config: Mapping[str, Any]) -> tuple[Check, ...]:
    """Return the checks of a configuration that fits the schema.

    Raises:
        VerifierError: They contradict themselves; the task's fault.
    """
    checks = [_parse(item) for item in config.get("checks", ())]
    names = [check.name for check in checks]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        message = f"two checks are named {twice!r}"
        raise _wrong(message)
    if not sum(check.weight for check in checks) > 0:
        message = "no check has a weight"
        raise _wrong(message)
    return tuple(checks)


def _parse(item: Mapping[str, Any]) -> Check:
    name, kind = str(item["name"]), str(item["kind"])
    wanted = {key: value for key, value in item.items() if key not in _EVERY}
    needed = _NEEDED[kind]
    if needed not in wanted or wanted[needed] in ("", [], ()):
        message = f"the check {name!r} of kind {kind} needs {needed}"
        raise _wrong(message)
    strange = sorted(set(wanted) - _KNOWN[kind])
    if strange:
        message = f"the check {name!r} of kind {kind} knows no {strange[0]}"
        raise _wrong(message)
    for key, what in (("regex", re.compile), ("mode", lambda text: int(text, 8))):
        try:
            what(wanted.get(key, "0"))
        except (re.error, ValueError) as error:
            message = f"the {key} of the check {name!r} is none: {error}"
            raise _wrong(message) from error
    weight = float(item.get("weight", 1.0))
    if not math.isfinite(weight):
        message = f"the weight of the check {name!r} is not finite"
        raise _wrong(message)
    return Check(name=name, kind=kind, weight=weight, wanted=wanted)


def judge_seen(check: Check, seen: Mapping[str, Any]) -> Finding:
    """Return the answer of a look at the box.

    Args:
        check: What was asked.
        seen: What `look.py` saw; nothing in it is trusted to be of its type.
    """
    judges = {"file": _file, "process": _process, "port": _port, "http": _http}
    problem = judges[check.kind](check.wanted, seen)
    return Finding(value=float(not problem), rationale=problem or "as it has to be")


def _file(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    kind, expected = seen.get("type"), wanted.get("type", "file")
    if kind != expected:
        return f"{wanted['path']} is {_kind(kind)}, not {_kind(expected)}"
    if "sha256" in wanted and seen.get("sha256") != wanted["sha256"].lower():
        return f"its SHA-256 is {seen.get('sha256')}"
    if "mode" in wanted and seen.get("mode") != int(wanted["mode"], 8):
        return f"its mode is {seen.get('mode', 0):o}" if isinstance(seen.get("mode"), int) else "it has no mode"
    if "uid" in wanted and seen.get("uid") != wanted["uid"]:
        return f"it belongs to {seen.get('uid')}"
    text = str(seen.get("text", ""))
    if "content" in wanted and text != wanted["content"]:
        return f"it holds {_short(text)}"
    if "regex" in wanted and not re.search(wanted["regex"], text, re.MULTILINE):
        return "nothing in it fits the pattern"
    return ""


def _process(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    commands = seen.get("commands")
    known = [str(command) for command in commands] if isinstance(commands, list) else []
    found = [command for command in known if re.search(wanted["regex"], command)]
    least, most = wanted.get("count_min", 1), wanted.get("count_max", math.inf)
    return "" if least <= len(found) <= most else f"{len(found)} such processes run"


def _port(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    is_open, expected = seen.get("open") is True, wanted.get("open", True)
    return "" if is_open == expected else f"port {wanted['port']} is {'open' if is_open else 'closed'}"


def _http(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    if "status" not in seen:
        return f"there was no answer: {_short(str(seen.get('error', '')))}"
    if seen["status"] != wanted.get("status", 200):
        return f"the status is {seen['status']}"
    fits = "regex" not in wanted or re.search(wanted["regex"], str(seen.get("text", "")), re.MULTILINE)
    return "" if fits else "nothing in the answer fits the pattern"


def judge_run(check: Check, result: ExecResult) -> Finding:
    """Return the answer of a command or script that was run."""
    problem = _run_problem(check.wanted, result)
    return Finding(value=float(not problem), rationale=problem or "as it has to be")


def _run_problem(wanted: Mapping[str, Any], result: ExecResult) -> str:
    if result.timed_out:
        return "its time was up"
    if result.exit_code != wanted.get("exit_code", 0):
        told = _short(result.stderr[-200:].decode("utf-8", "replace").strip())
        return (
            f"it ended with {result.exit_code if result.exit_code is not None else f'signal {result.signal}'}: {told}"
        )
    text = result.stdout.decode("utf-8", "replace")
    if "stdout" in wanted and text.strip() != wanted["stdout"].strip():
        return f"it printed {_short(text)}"
    if "regex" in wanted and not re.search(wanted["regex"], text, re.MULTILINE):
        return f"nothing fits the pattern in {_short(text)}"
    if "number" in wanted:
        return _number_problem(wanted, text)
    return ""


def _number_problem(wanted: Mapping[str, Any], text: str) -> str:
    try:
        value = float(text.strip())
    except ValueError:
        return f"it printed no number, but {_short(text)}"
    near = math.isfinite(value) and abs(value - wanted["number"]) <= wanted.get("tolerance", 0.0)
    return "" if near else f"it printed {value:g}"


def reward_of(checks: Sequence[Check], findings: Mapping[str, Finding], *, require_all: bool) -> float:
    """Return the weighted share of checks that are content; with `require_all`, 1 only where all are."""
    if require_all:
        return float(all(findings[check.name].value == 1.0 for check in checks if check.weight))
    total = math.fsum(check.weight for check in checks)
    return math.fsum(check.weight * findings[check.name].value for check in checks) / total


def _kind(kind: object) -> str:
    return {"missing": "missing", None: "not seen"}.get(kind if isinstance(kind, str) else None, f"a {kind}")


def _short(text: str) -> str:
    return repr(text if len(text) <= _TOLD_CHARACTERS else f"{text[:_TOLD_CHARACTERS]}...")


def _wrong(message: str) -> VerifierError:
    return VerifierError(f"verifier_config: {message}", attribution=Attribution.TASK)
