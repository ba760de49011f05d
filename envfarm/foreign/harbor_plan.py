"""How a Harbor task is run and judged: its steps in order, as whom, where, for how long. PURE.

`make_plan` resolves what task.toml leaves to inheritance (Harbor 1.4), so that the runner decides nothing. Values of
variables stay as they are written: they are filled from this machine's variables when they are used.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from envfarm.errors import TaskError
from envfarm.foreign.compose_source import MAIN_SERVICE, named_services
from envfarm.foreign.plan_values import impossible_values
from envfarm.formats.harbor_config import (
    AgentTable,
    Artifact,
    Collect,
    Config,
    EnvironmentTable,
    Healthcheck,
    Step,
    VerifierTable,
)
from envfarm.formats.harbor_rules import PUBLISHED, contradictions, megabytes_of
from envfarm.formats.lint_layout import COMPOSE, Judging, judgings, solution_of
from envfarm.formats.task_tree import TaskTree
from envfarm.records.task import TASK_FILE
from envfarm.sandbox.contract import GIBIBYTE, MEBIBYTE, Limits, Network

ENVIRONMENT_FOLDER = "environment"
_TESTS = "tests"
_MISNAMED = "docker-compose.yml"
_NETWORKS = {"public": Network.PUBLIC, "no-network": Network.NONE, "allowlist": Network.ALLOWLIST}
_DISK_BYTES, _PROCESSES = 10 * GIBIBYTE, 2048
"""Bounds where a task names none: Harbor has none there."""


@dataclass(frozen=True, kw_only=True)
class NetworkPolicy:
    """What a box can reach while something runs in it."""

    network: Network
    allowed_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BoxPlan:
    """What one box is made of.

    Attributes:
        image_name: The image, where the task names one that is built already.
        folder: The task's folder whose Dockerfile makes the image, where it names none.
        build_timeout_seconds: Bound on building or pulling.
        working_directory: Of every command; None for the image's own.
        env: Variables of every command, not yet filled in.
        policy: What it can reach unless a phase says otherwise.
        limits: Bounds on the box.
        healthcheck: What has to succeed before it is used; only the box of the work has one.
        compose_file: The task's file that tells of services beside the box; empty for none.
        loose_files: Folder of the task that is laid over the working directory, as Harbor does where an image is named
            and no recipe is there; empty for none.
    """

    image_name: str | None
    folder: str
    build_timeout_seconds: float
    working_directory: PurePosixPath | None
    env: Mapping[str, str]
    policy: NetworkPolicy
    limits: Limits
    healthcheck: Healthcheck | None
    compose_file: str = ""
    loose_files: str = ""


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """One step, or all of a task without steps.

    Attributes:
        name: Of the step; empty for a task without steps.
        agent_user: Who works; None for the image's own user.
        agent_timeout_seconds: Bound on the work; None for none.
        agent_policy: What can be reached during the work.
        working_files: Folder of the task that is laid over the working directory first; empty for none.
        setup_script: Path of the script below `working_files` that runs then; empty for none.
        healthcheck: What has to succeed before the work.
        solution: Path of the script that does the oracle's work; None where there is none.
        test_folders: Folders of the task that are laid over each other at /tests, in this order.
        test_script: Path below /tests of the script that judges.
        verifier_user: Who judges; None for the image's own user.
        verifier_timeout_seconds: Bound on judging.
        verifier_env: Variables of the judging script, not yet filled in.
        verifier_policy: What can be reached during the judging.
        verifier_box: The box that judges; None where that is the one of the work.
        tests_in_image: Whether that box has the tests already.
        collects: Commands that run after the work, before artifacts are taken.
        artifacts: What is carried from the box of the work to that of the judging.
        min_reward: By key, what the step has to reach for the next one to begin.
    """

    name: str
    agent_user: str | None
    agent_timeout_seconds: float | None
    agent_policy: NetworkPolicy
    working_files: str
    setup_script: str
    healthcheck: Healthcheck | None
    solution: str | None
    test_folders: tuple[str, ...]
    test_script: str
    verifier_user: str | None
    verifier_timeout_seconds: float
    verifier_env: Mapping[str, str]
    verifier_policy: NetworkPolicy
    verifier_box: BoxPlan | None
    tests_in_image: bool
    collects: tuple[Collect, ...]
    artifacts: tuple[Artifact, ...]
    min_reward: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class HarborPlan:
    """A task, resolved.

    Attributes:
        name: Its name, or that of its folder.
        box: Where the work is done.
        steps: In order.
        takes_last_step: Whether the last step's rewards count alone, not the mean over the steps.
        solution_env: Variables of the oracle, not yet filled in.
    """

    name: str
    box: BoxPlan
    steps: tuple[StepPlan, ...]
    takes_last_step: bool = False
    solution_env: Mapping[str, str] = field(default_factory=dict)


def make_plan(config: Config, tree: TaskTree, *, folder_name: str) -> HarborPlan:
    """Return how a task is run and judged.

    Args:
        config: Its task.toml.
        tree: Its files.
        folder_name: Its name where it says none.

    Raises:
        TaskError: It contradicts itself, lacks a file, or asks for what cannot be given: Windows, accelerators,
            services for a verifier.
    """
    for problem in (*contradictions(config), *impossible_values(config)):
        raise _refused(problem)
    _refuse_unsupported(config, tree)
    return HarborPlan(
        name=config.task.name if config.task is not None else folder_name,
        box=_box(config.environment, ENVIRONMENT_FOLDER, tree, image_name=config.environment.docker_image),
        steps=tuple(_step(config, judging, tree) for judging in judgings(config, tree)),
        takes_last_step=config.multi_step_reward_strategy == "final",
        solution_env=config.solution.env,
    )


def _refuse_unsupported(config: Config, tree: TaskTree) -> None:
    own = f"{ENVIRONMENT_FOLDER}/{COMPOSE}"
    misnamed = f"{ENVIRONMENT_FOLDER}/{_MISNAMED}"
    if misnamed in tree.files and own not in tree.files:
        message = f"{misnamed}: Harbor does not read it: name it {COMPOSE}"
        raise TaskError(message)
    for judging in judgings(config, tree):
        judged = f"{judging.image_folder}/{COMPOSE}"
        if judging.image_folder != ENVIRONMENT_FOLDER and judged in tree.files:
            message = f"{judged}: a verifier with services of its own is not run here: use Harbor for it"
            raise TaskError(message)
    services = named_services(tree.files[own], own) if own in tree.files else frozenset({MAIN_SERVICE})
    for problem in _unsupported(config, services):
        raise _refused(problem)


def _unsupported(config: Config, known: frozenset[str]) -> Iterator[str]:
    steps = config.steps or []
    tables = [("environment", config.environment), ("verifier.environment", config.verifier.environment)]
    tables += [(f"steps[{n}].verifier.environment", step.verifier.environment) for n, step in enumerate(steps)]
    for place, table in tables:
        if table is not None and table.os.lower() != "linux":
            yield f"{place}.os is {table.os}, and boxes are Linux"
        if table is not None and (table.gpus or table.tpu is not None):
            yield f"{place} asks for accelerators, and boxes have none"
    services = [collect.service for collect in _collects(config, None)]
    services += [collect.service for step in steps for collect in step.verifier.collect]
    services += [_artifact(entry).service or MAIN_SERVICE for entry in _entries(config, None)]
    for service in services:
        if service not in known:
            yield f"it names the service {service!r}, which no {ENVIRONMENT_FOLDER}/{COMPOSE} makes"


def _step(config: Config, judging: Judging, tree: TaskTree) -> StepPlan:
    step = judging.step
    agents = [step.agent, config.agent] if step else [config.agent]
    verifiers = [step.verifier, config.verifier] if step else [config.verifier]
    places = [f"steps/{step.name}/{_TESTS}", _TESTS] if step else [_TESTS]
    base = _policy_of(config.environment)
    if judging.script is None and not judging.is_bundled:
        message = f"{places[0]}/test.sh: it is missing: the task has nothing that judges"
        raise TaskError(message)
    box = _verifier_box(config, judging, verifiers, tree) if judging.is_separate else None
    script = judging.script
    owner = next((place for place in places if script is not None and script.startswith(f"{place}/")), _TESTS)
    working = f"steps/{step.name}/workdir" if step else ""
    has_working = working in tree.folders
    return StepPlan(
        name=step.name if step else "",
        agent_user=_first_user(agents),
        agent_timeout_seconds=next((table.timeout_sec for table in agents if table.timeout_sec is not None), None),
        agent_policy=_phase_policy(agents, base),
        working_files=working if has_working else "",
        setup_script="setup.sh" if has_working and f"{working}/setup.sh" in tree.files else "",
        healthcheck=step.healthcheck if step else None,
        solution=solution_of(config, step, tree),
        test_folders=tuple(place for place in reversed(places) if place in tree.folders),
        test_script="test.sh" if script is None else script[len(owner) + 1 :],
        verifier_user=_first_user(verifiers),
        verifier_timeout_seconds=verifiers[0].timeout_sec,
        verifier_env={**config.verifier.env, **(step.verifier.env if step else {})},
        verifier_policy=_phase_policy(verifiers, box.policy if box is not None else base),
        verifier_box=box,
        tests_in_image=judging.is_bundled,
        collects=tuple(_collects(config, step)),
        artifacts=_artifacts(config, step),
        min_reward=_min_reward(step),
    )


def _verifier_box(config: Config, judging: Judging, verifiers: list[VerifierTable], tree: TaskTree) -> BoxPlan:
    """Return the box that judges: its own image, else that of the work; its own resources, else those of the work."""
    table = next((item.environment for item in verifiers if item.environment is not None), config.environment)
    image_name = config.environment.docker_image
    if judging.image_folder != ENVIRONMENT_FOLDER:
        owner = verifiers[-1] if judging.image_folder == _TESTS else verifiers[0]
        image_name = owner.environment.docker_image if owner.environment is not None else None
    return replace(_box(table, judging.image_folder, tree, image_name=image_name), healthcheck=None)


def _box(table: EnvironmentTable, folder: str, tree: TaskTree, *, image_name: str | None) -> BoxPlan:
    has_recipe = f"{folder}/Dockerfile" in tree.files
    has_services = folder == ENVIRONMENT_FOLDER and f"{folder}/{COMPOSE}" in tree.files
    if image_name is None and not has_recipe and not has_services:
        message = f"{folder}/Dockerfile: it is missing, and no docker_image is named: the task has no image"
        raise TaskError(message)
    is_loose = folder == ENVIRONMENT_FOLDER and folder in tree.folders and not has_recipe and not has_services
    memory = table.memory_mb if table.memory_mb is not None else megabytes_of(table.memory)
    storage = table.storage_mb if table.storage_mb is not None else megabytes_of(table.storage)
    limits = Limits(
        memory_bytes=Limits().memory_bytes if memory is None else int(memory) * MEBIBYTE,
        disk_bytes=_DISK_BYTES if storage is None else int(storage) * MEBIBYTE,
        file_size_bytes=_DISK_BYTES if storage is None else int(storage) * MEBIBYTE,
        process_count=_PROCESSES,
        cpu_cores=table.cpus,
    )
    return BoxPlan(
        image_name=image_name,
        folder=folder,
        build_timeout_seconds=table.build_timeout_sec,
        working_directory=None if table.workdir is None else PurePosixPath(table.workdir),
        env=table.env,
        policy=_policy_of(table),
        limits=limits,
        healthcheck=table.healthcheck,
        compose_file=f"{folder}/{COMPOSE}" if has_services else "",
        loose_files=folder if is_loose else "",
    )


def _policy_of(table: EnvironmentTable) -> NetworkPolicy:
    if table.allow_internet is False and table.network_mode == "public":
        return NetworkPolicy(network=Network.NONE)
    return NetworkPolicy(network=_NETWORKS[table.network_mode], allowed_hosts=tuple(table.allowed_hosts or ()))


def _phase_policy(tables: list[AgentTable] | list[VerifierTable], base: NetworkPolicy) -> NetworkPolicy:
    for table in tables:
        if table.network_mode is not None:
            return NetworkPolicy(network=_NETWORKS[table.network_mode], allowed_hosts=tuple(table.allowed_hosts or ()))
    return base


def _first_user(tables: list[AgentTable] | list[VerifierTable]) -> str | None:
    return next((str(table.user) for table in tables if table.user is not None), None)


def _collects(config: Config, step: Step | None) -> list[Collect]:
    return [*config.verifier.collect, *(step.verifier.collect if step else [])]


def _entries(config: Config, step: Step | None) -> list[str | Artifact]:
    steps = [step] if step is not None else config.steps or []
    return [*config.artifacts, *(entry for item in steps for entry in item.artifacts)]


def _artifact(entry: str | Artifact) -> Artifact:
    return Artifact(source=entry) if isinstance(entry, str) else entry


def _artifacts(config: Config, step: Step | None) -> tuple[Artifact, ...]:
    """Return what is carried over, each once; what is published comes in any case."""
    found = [_artifact(entry) for entry in (_entries(config, step) if step else config.artifacts)]
    if all(item.source.rstrip("/") != PUBLISHED or item.service not in {None, MAIN_SERVICE} for item in found):
        found.insert(0, Artifact(source=PUBLISHED))
    return tuple({(item.service or MAIN_SERVICE, item.source): item for item in found}.values())


def _min_reward(step: Step | None) -> Mapping[str, float]:
    if step is None or step.min_reward is None:
        return {}
    return step.min_reward if isinstance(step.min_reward, dict) else {"reward": step.min_reward}


def _refused(problem: str) -> TaskError:
    return TaskError(f"{TASK_FILE}: {problem}")
