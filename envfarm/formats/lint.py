"""Problems of a task folder, ours or anybody's: Harbor's own lint ids, and ours, which start with ``envfarm-``.

Nothing is run and nothing is fetched. Harbor's own linter agrees on the ids (tests/service/test_foreign_judges.py);
only compose files, which it has docker read, are read here by themselves.
"""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from envfarm.formats.harbor_config import Config, read_config, unknown_fields
from envfarm.formats.harbor_rules import contradictions, overlaps
from envfarm.formats.lint_commands import lint_dockerfile, lint_image, lint_script
from envfarm.formats.lint_compose import lint_compose
from envfarm.formats.lint_layout import COMPOSE, judgings, lint_layout, solutions
from envfarm.formats.lint_ours import lint_ours
from envfarm.formats.lint_problem import Problem, problem
from envfarm.formats.task_tree import TaskTree, read_tree
from envfarm.records.task import TASK_FILE

__all__ = ["Problem", "lint_task"]


def lint_task(path: Path) -> list[Problem]:
    """Return all problems of a task folder, ours or anybody's, in the order of files.

    Raises:
        TaskError: It is no folder, or cannot be read.
    """
    tree = read_tree(path)
    found = [
        problem(
            "invalid-task-files",
            name,
            "it is no regular file of the task, but a link out of it, a dead one or a device",
        )
        for name in tree.strays
    ]
    document, config = None, None
    if TASK_FILE not in tree.files:
        found.append(problem("invalid-task-files", TASK_FILE, "it is missing"))
    else:
        document = _parse(tree.files[TASK_FILE], found)
    if document is not None:
        found += [problem("unknown-config-field", TASK_FILE, said) for said in unknown_fields(document)]
        config = _read(document, found)
    if config is not None:
        found += [*lint_layout(config, tree), *_lint_config(config), *_lint_sources(config, tree)]
    found += _lint_compose_files(tree)
    metadata = document.get("metadata") if document is not None else None
    if isinstance(metadata, dict) and "envfarm" in metadata:
        found += lint_ours(tree.files)
    unique = list(dict.fromkeys(found))
    return sorted(unique, key=lambda item: (item.file, item.line or 0, item.rule, item.message))


def _parse(content: bytes, found: list[Problem]) -> dict[str, Any] | None:
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        found.append(problem("invalid-task-config", TASK_FILE, f"it is no TOML ({' '.join(str(error).split())})"))
        return None


def _read(document: Mapping[str, Any], found: list[Problem]) -> Config | None:
    """Return the tables where Harbor would take them."""
    config = read_config(document)
    wrong = [config] if isinstance(config, str) else list(contradictions(config))
    found += [problem("invalid-task-config", TASK_FILE, said) for said in wrong]
    return None if wrong or isinstance(config, str) else config


def _lint_config(config: Config) -> Iterator[Problem]:
    base = list(overlaps(config.artifacts))
    every = base + [said for step in config.steps or [] for said in overlaps([*config.artifacts, *step.artifacts])]
    for said in dict.fromkeys(every):
        yield problem("overlapping-artifacts", TASK_FILE, said)
    verifiers = [(step.verifier, config.verifier.is_separate()) for step in config.steps or []]
    if not all(table.is_separate(inherited) for table, inherited in verifiers or [(config.verifier, False)]):
        yield problem(
            "shared-verifier",
            TASK_FILE,
            'it is judged in the agent\'s own container: environment_mode = "separate" helps',
        )
    users = [("agent.user", config.agent.user)]
    if config.steps:
        users = [
            (f"steps[{number}].agent.user", config.agent.user if step.agent.user is None else step.agent.user)
            for number, step in enumerate(config.steps)
        ]
    for place, user in users:
        if user is None or str(user).split(":")[0] in {"0", "root"}:
            yield problem("root-agent", TASK_FILE, f"{place} is not given, or root")


def _lint_sources(config: Config, tree: TaskTree) -> Iterator[Problem]:
    tables = [("environment", config.environment), ("verifier.environment", config.verifier.environment)]
    tables += [
        (f"steps[{n}].verifier.environment", step.verifier.environment) for n, step in enumerate(config.steps or [])
    ]
    for place, table in tables:
        if table is not None and table.docker_image:
            yield from (
                problem(rule, TASK_FILE, said) for rule, said in lint_image(table.docker_image, f"{place}.docker_image")
            )
    every = judgings(config, tree)
    recipes = dict.fromkeys(["environment", *(item.image_folder for item in every if item.image_folder)])
    for folder in recipes:
        name = f"{folder}/Dockerfile"
        if name in tree.files:
            text = tree.files[name].decode("utf-8", "replace")
            yield from (
                problem(rule, name, said, line)
                for rule, line, said in lint_dockerfile(text, of_agent=folder == "environment")
            )
    scripts: dict[str, bool] = {}
    for item in every:
        if item.script is not None:
            scripts[item.script] = scripts.get(item.script, False) or item.is_separate
    for name in solutions(config, tree):
        scripts.setdefault(name, False)
    for name, is_separate in scripts.items():
        if name.endswith(".sh"):
            text = tree.files[name].decode("utf-8", "replace")
            yield from (
                problem(rule, name, said, line) for rule, line, said in lint_script(text, is_separate=is_separate)
            )


def _lint_compose_files(tree: TaskTree) -> Iterator[Problem]:
    for name, content in tree.files.items():
        parts = name.split("/")
        at_the_top = parts in (["environment", COMPOSE], ["tests", COMPOSE])
        if at_the_top or (len(parts) == 4 and parts[0] == "steps" and parts[2:] == ["tests", COMPOSE]):  # noqa: PLR2004 -- steps/NAME/tests/FILE
            text = content.decode("utf-8", "replace")
            yield from (problem(rule, name, said) for rule, said in lint_compose(text, name, tree.strays))
