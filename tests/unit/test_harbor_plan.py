"""What task.toml leaves to inheritance is resolved as Harbor does it, and what cannot be given is refused."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

import pytest

from envfarm.errors import TaskError, UserError
from envfarm.foreign.harbor_plan import HarborPlan, NetworkPolicy, make_plan
from envfarm.foreign.harbor_task import check_work, work_policy
from envfarm.foreign.request import Work, WorkKind
from envfarm.formats.harbor_config import read_config
from envfarm.formats.task_tree import TaskTree
from envfarm.sandbox.contract import MEBIBYTE, Network

FILES = ("environment/Dockerfile", "tests/test.sh", "solution/solve.sh", "instruction.md")
OFFLINE, ONLINE = NetworkPolicy(network=Network.NONE), NetworkPolicy(network=Network.PUBLIC)


def plan(toml: str, files: Iterable[str] = FILES, *, contents: Mapping[str, bytes] | None = None) -> HarborPlan:
    config = read_config(tomllib.loads(toml))
    assert not isinstance(config, str), config
    known = {**dict.fromkeys(files, b"x"), **(contents or {})}
    folders = {str(parent) for name in known for parent in PurePosixPath(name).parents if str(parent) != "."}
    tree = TaskTree(files=known, folders=frozenset(folders), strays=())
    return make_plan(config, tree, folder_name="folder")


def step_files(*names: str) -> list[str]:
    return [*FILES, *(f"steps/{name}/instruction.md" for name in names)]


def test_a_task_without_steps_is_one_step() -> None:
    made = plan('[task]\nname = "org/name"\n[agent]\nuser = 1000\ntimeout_sec = 5\n[verifier]\nuser = "judge"\n')
    (step,) = made.steps
    assert (made.name, step.name, step.agent_user, step.verifier_user) == ("org/name", "", "1000", "judge")
    assert (step.agent_timeout_seconds, step.verifier_timeout_seconds) == (5.0, 600.0)
    assert (step.solution, step.test_folders, step.test_script) == ("solution/solve.sh", ("tests",), "test.sh")
    assert (step.verifier_box, made.box.folder, made.box.image_name) == (None, "environment", None)
    assert [item.source for item in step.artifacts] == ["/logs/artifacts"]
    assert plan("").name == "folder"


def test_a_step_inherits_what_it_does_not_say() -> None:
    toml = (
        '[agent]\nuser = "all"\ntimeout_sec = 9\n[verifier]\nuser = "judge"\nenv = { A = "1", B = "1" }\n'
        '[[verifier.collect]]\ncommand = "one"\n'
        '[[steps]]\nname = "a"\n[steps.agent]\nuser = "other"\n[steps.verifier]\nenv = { B = "2" }\ntimeout_sec = 3\n'
        '[[steps.verifier.collect]]\ncommand = "two"\n[[steps]]\nname = "b"\n'
    )
    first, second = plan(toml, [*step_files("a", "b"), "steps/a/tests/more.py", "steps/a/solution/solve.sh"]).steps
    assert (first.agent_user, second.agent_user) == ("other", "all")
    assert (first.verifier_env, second.verifier_env) == ({"A": "1", "B": "2"}, {"A": "1", "B": "1"})
    assert ([item.command for item in first.collects], [item.command for item in second.collects]) == (
        ["one", "two"],
        ["one"],
    )
    assert (first.verifier_timeout_seconds, second.verifier_timeout_seconds) == (3.0, 600.0)
    assert (first.test_folders, second.test_folders) == (("tests", "steps/a/tests"), ("tests",))
    assert (first.solution, second.solution) == ("steps/a/solution/solve.sh", "solution/solve.sh")


def test_a_least_reward_without_key_means_reward() -> None:
    toml = '[[steps]]\nname = "a"\nmin_reward = 0.5\n[[steps]]\nname = "b"\nmin_reward = { x = 1 }\n'
    first, second = plan(toml, step_files("a", "b")).steps
    assert (first.min_reward, second.min_reward) == ({"reward": 0.5}, {"x": 1.0})


@pytest.mark.parametrize(
    ("toml", "more", "expected"),
    [
        ('[verifier]\nenvironment_mode = "separate"\n', (), ("environment", None, False)),
        ('[verifier]\nenvironment_mode = "separate"\n', ("tests/Dockerfile",), ("tests", None, True)),
        ('[verifier.environment]\ndocker_image = "judge:1"\n', ("tests/Dockerfile",), ("tests", "judge:1", True)),
        (
            '[environment]\ndocker_image = "work:1"\n[verifier]\nenvironment_mode = "separate"\n',
            (),
            ("environment", "work:1", False),
        ),
    ],
)
def test_a_separate_verifier_has_its_own_image_or_that_of_the_work(
    toml: str, more: tuple[str, ...], expected: tuple[str, str | None, bool]
) -> None:
    (step,) = plan(toml, [*FILES, *more]).steps
    assert step.verifier_box is not None
    assert (step.verifier_box.folder, step.verifier_box.image_name, step.tests_in_image) == expected


def test_loose_files_lie_beside_a_named_image_and_only_the_work_is_checked_for_health() -> None:
    toml = (
        '[environment]\ndocker_image = "work:1"\n[environment.healthcheck]\ncommand = "true"\n'
        '[verifier]\nenvironment_mode = "separate"\n'
    )
    made = plan(toml, [*FILES[1:], "environment/data.txt"])
    (step,) = made.steps
    assert step.verifier_box is not None
    assert (made.box.loose_files, step.verifier_box.loose_files) == ("environment", "environment")
    assert made.box.healthcheck is not None
    assert step.verifier_box.healthcheck is None
    assert plan(toml).box.loose_files == ""


def test_old_words_for_sizes_and_network_still_count() -> None:
    box = plan('[environment]\nmemory = "2G"\nstorage = "1G"\nallow_internet = false\ncpus = 1.5\n').box
    assert (box.limits.memory_bytes, box.limits.disk_bytes) == (2048 * MEBIBYTE, 1024 * MEBIBYTE)
    assert (box.limits.cpu_cores, box.policy) == (1.5, OFFLINE)


@pytest.mark.parametrize(
    ("toml", "kind", "expected"),
    [
        ("", WorkKind.ORACLE, ONLINE),
        ('[agent]\nnetwork_mode = "no-network"\n', WorkKind.NO_OP, ONLINE),
        ('[agent]\nnetwork_mode = "no-network"\n', WorkKind.ORACLE, None),
        ('[environment]\nnetwork_mode = "no-network"\n', WorkKind.ORACLE, OFFLINE),
        (
            '[agent]\nnetwork_mode = "no-network"\n[verifier]\nenvironment_mode = "separate"\n',
            WorkKind.ORACLE,
            OFFLINE,
        ),
        (
            '[environment]\nnetwork_mode = "allowlist"\nallowed_hosts = ["example.org"]\n',
            WorkKind.WORKSPACE,
            NetworkPolicy(network=Network.ALLOWLIST, allowed_hosts=("example.org",)),
        ),
    ],
)
def test_a_box_has_one_network(toml: str, kind: WorkKind, expected: NetworkPolicy | None) -> None:
    made = plan(toml)
    if expected is None:
        with pytest.raises(TaskError, match="different networks"):
            work_policy(made, kind)
    else:
        assert work_policy(made, kind) == expected


@pytest.mark.parametrize(
    ("toml", "files", "words"),
    [
        ("", (*FILES, "environment/docker-compose.yml"), r"name it docker-compose\.yaml"),
        ("", (*FILES, "environment/docker-compose.yaml"), "it has no services"),
        (
            '[verifier]\nenvironment_mode = "separate"\n',
            (*FILES, "tests/Dockerfile", "tests/docker-compose.yaml"),
            "a verifier with services",
        ),
        ("", FILES[1:], "Dockerfile"),
        ("", ("environment/Dockerfile", "instruction.md"), "test.sh"),
        ('[environment]\nos = "windows"\n', (*FILES, "tests/test.bat"), "Linux"),
        ("[environment]\ngpus = 1\n", FILES, "accelerators"),
        ('[[verifier.collect]]\ncommand = "x"\nservice = "db"\n', FILES, "'db'"),
        ('artifacts = [{ source = "/x", service = "db" }]\n', FILES, "'db'"),
        ('[task]\nname = "nothing"\n', FILES, "ORG/NAME"),
        ('[verifier]\nenvironment_mode = "shared"\n[verifier.environment]\ncpus = 1\n', FILES, "shared"),
    ],
)
def test_what_cannot_be_given_is_refused_in_one_line(toml: str, files: tuple[str, ...], words: str) -> None:
    with pytest.raises(TaskError, match=words) as caught:
        plan(toml, files)
    assert "\n" not in str(caught.value)


COMPOSE = {"environment/docker-compose.yaml": b"services: {main: {image: x}, db: {}}"}


def test_services_may_be_named_that_the_file_makes() -> None:
    toml = (
        'artifacts = [{ source = "/x", service = "db" }, "/x", { source = "/logs/artifacts", service = "db" }]\n'
        '[[verifier.collect]]\ncommand = "x"\nservice = "db"\n'
    )
    made = plan(toml, [*FILES[1:], "environment/data.txt"], contents=COMPOSE)
    (step,) = made.steps
    assert (made.box.compose_file, made.box.loose_files) == ("environment/docker-compose.yaml", "")
    assert [(item.service, item.source) for item in step.artifacts] == [
        (None, "/logs/artifacts"),
        ("db", "/x"),
        (None, "/x"),
        ("db", "/logs/artifacts"),
    ]
    assert [item.service for item in step.collects] == ["db"]
    with pytest.raises(TaskError, match="'web'"):
        plan(toml.replace("db", "web"), FILES, contents=COMPOSE)
    nested = plan("", [*FILES, "environment/app/docker-compose.yml", "tests/docker-compose.yaml"])
    assert nested.box.compose_file == ""


def test_a_verifier_of_the_works_own_files_has_services_as_well() -> None:
    (step,) = plan('[verifier]\nenvironment_mode = "separate"\n', contents=COMPOSE).steps
    assert step.verifier_box is not None
    assert step.verifier_box.compose_file == "environment/docker-compose.yaml"


def test_work_that_has_no_place_is_refused() -> None:
    steps = plan('[[steps]]\nname = "a"\n[[steps]]\nname = "b"\n', step_files("a", "b"))
    with pytest.raises(UserError, match="several"):
        check_work(steps, Work(kind=WorkKind.WORKSPACE))
    with pytest.raises(TaskError, match=r"solve\.sh"):
        check_work(plan("", FILES[:2]), Work(kind=WorkKind.ORACLE))
    check_work(plan("", FILES[:2]), Work(kind=WorkKind.NO_OP))


@pytest.mark.parametrize(
    "toml",
    [
        *(f"[environment]\nbuild_timeout_sec = {value}" for value in ("nan", "inf", "-1", "0")),
        *(f"[environment]\ncpus = {value}" for value in ("nan", "inf", "0", "-3", "1e300")),
        *(f"[environment]\n{name}_mb = {value}" for name in ("memory", "storage") for value in ("0", "-1", "9" * 17)),
        '[environment]\nmemory = "0G"',
        '[environment]\nmemory = "99999999999999999999G"',
        *(f'[environment]\nworkdir = "{value}"' for value in ("", "rel", "/a/../b")),
        *(f'[environment]\ndocker_image = "{value}"' for value in ("", "-v", "A B", "a@sha256:0")),
        *(f"[environment]\nenv = {value}" for value in ('{ "A=B" = "x" }', '{ "" = "x" }', '{ A = "\\u0000" }')),
        *(f'[environment.healthcheck]\ncommand = "x"\n{v}' for v in ("interval_sec = nan", "timeout_sec = -1")),
        *(
            f"[{table}]\ntimeout_sec = {value}"
            for table in ("agent", "verifier")
            for value in ("nan", "-1", "0", "1e300")
        ),
        *(f"[agent]\nuser = {value}" for value in ('""', "-1", "4294967296", '"0:-1"')),
        '[[verifier.collect]]\ncommand = "x"\ntimeout_sec = nan',
        "[verifier.environment]\nmemory_mb = 0",
        '[[steps]]\nname = "a"\nmin_reward = nan',
        '[[steps]]\nname = "a"\n[steps.verifier]\ntimeout_sec = 0',
    ],
)
def test_values_that_no_box_can_have_are_refused(toml: str) -> None:
    """Of memory, disk and processors an engine takes 0 for no bound at all."""
    with pytest.raises(TaskError, match=r"^task.toml: \S+"):
        plan(toml, step_files("a"))
