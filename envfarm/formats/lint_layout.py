"""Which files a task has to have, and which of them are scripts and recipes of whom (Harbor 1.4). PURE."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from envfarm.formats.foreign import strip_canary
from envfarm.formats.harbor_config import Config, EnvironmentTable, Step, VerifierTable
from envfarm.formats.harbor_rules import overlaps_logs
from envfarm.formats.lint_problem import Problem, problem
from envfarm.formats.task_tree import TaskTree
from envfarm.records.task import DOCKERFILE, STATEMENT_FILE, TASK_FILE

COMPOSE = "docker-compose.yaml"
_SCRIPTS = {"linux": ("sh",), "windows": ("ps1", "cmd", "bat")}


@dataclass(frozen=True)
class Judging:
    """How one step, or the whole task, is judged.

    Attributes:
        step: The step; None for a task without steps.
        is_separate: In a container of its own.
        image_folder: What that container is made of: environment, or tests with a recipe of their own; "" where the
            agent's own container judges.
        script: The test script; None where there is none.
        is_bundled: The tests are in the judging image, so that no script has to lie here.
    """

    step: Step | None
    is_separate: bool
    image_folder: str
    script: str | None
    is_bundled: bool


def judgings(config: Config, tree: TaskTree) -> list[Judging]:
    """Return how each step is judged, or the one way in which the task is."""
    found = []
    for step in _steps(config):
        places = [f"steps/{step.name}/tests", "tests"] if step else ["tests"]
        tables = [step.verifier, config.verifier] if step else [config.verifier]
        is_separate = tables[0].is_separate(inherited=step is not None and config.verifier.is_separate())
        image_folder, is_bundled = ("environment", False) if is_separate else ("", False)
        if is_separate:
            own = next(
                (place for table, place in zip(tables, places, strict=True) if _holds_image(table, place, tree)), None
            )
            image_folder, is_bundled = (own, True) if own else ("environment", False)
        system = _system(config, tables) if is_separate else config.environment.os
        script = _script(places, "test", system, tree)
        found.append(
            Judging(step=step, is_separate=is_separate, image_folder=image_folder, script=script, is_bundled=is_bundled)
        )
    return found


def lint_layout(config: Config, tree: TaskTree) -> Iterator[Problem]:
    """Yield what is missing, and artifacts that would bring logs to a judging container."""
    if not config.environment.docker_image and "environment" not in tree.folders:
        yield problem("invalid-task-files", DOCKERFILE, "there is no environment/ and no environment.docker_image")
    logs: set[str] = set()
    for judging in judgings(config, tree):
        step = judging.step
        statement = f"steps/{step.name}/{STATEMENT_FILE}" if step else STATEMENT_FILE
        if statement not in tree.files:
            yield problem("invalid-task-files", statement, "it is missing")
        elif not strip_canary(tree.files[statement].decode("utf-8", "replace")).strip():
            yield problem("invalid-task-files", statement, "it says nothing")
        if judging.is_separate:
            entries = [*config.artifacts, *(step.artifacts if step else [])]
            logs |= {str(item if isinstance(item, str) else item.source) for item in entries if overlaps_logs(item)}
        if judging.script is None and not judging.is_bundled:
            place = f"steps/{step.name}/tests/test.sh" if step else "tests/test.sh"
            yield problem("invalid-task-files", place, "it is missing, and no judging image holds the tests")
    for source in sorted(logs):
        yield problem("artifact-log-overlap", TASK_FILE, f"the artifact {source} holds logs of agent or verifier")


def solutions(config: Config, tree: TaskTree) -> Iterator[str]:
    """Yield the scripts that apply the true fix."""
    yield from filter(None, (solution_of(config, step, tree) for step in _steps(config)))


def solution_of(config: Config, step: Step | None, tree: TaskTree) -> str | None:
    """Return the script that applies the true fix of a step, or of a task without steps; None where there is none."""
    places = [f"steps/{step.name}/solution", "solution"] if step else ["solution"]
    return _script(places, "solve", config.environment.os, tree)


def _steps(config: Config) -> list[Step | None]:
    """Return the steps, or None for the one way of a task without steps."""
    return [*config.steps] if config.steps else [None]


def _system(config: Config, tables: list[VerifierTable]) -> str:
    table: EnvironmentTable | None = next((item.environment for item in tables if item.environment is not None), None)
    return config.environment.os if table is None or table.os == "linux" else table.os


def _holds_image(table: VerifierTable, place: str, tree: TaskTree) -> bool:
    is_named = table.environment is not None and bool(table.environment.docker_image)
    return is_named or any(f"{place}/{name}" in tree.files for name in ("Dockerfile", COMPOSE))


def _script(places: list[str], name: str, system: str, tree: TaskTree) -> str | None:
    for place in places:
        for ending in _SCRIPTS.get(system.lower(), ("sh",)):
            path = str(PurePosixPath(place) / f"{name}.{ending}")
            if path in tree.files:
                return path
    return None
