"""Harbor tasks with a docker-compose file, run with the compose commands of this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import anyio.to_thread
import pytest

from envfarm.errors import Attribution, MissingToolError, TaskError
from envfarm.records.verdict import Outcome, Verdict
from envfarm.sandbox.docker.container import OWNER_LABEL
from envfarm.sandbox.docker.engine import Engine, open_engine
from envfarm.sandbox.docker.engine_groups import list_networks, list_volumes
from envfarm.sandbox.docker.provider import FOLDER_PREFIX, folders_place
from envfarm.sandbox.owner_mark import is_dead

Make = Callable[..., Path]
OFFLINE = '[verifier]\ntimeout_sec = 60.0\n[environment]\nnetwork_mode = "no-network"\n'


@pytest.fixture
def make(make_service_task: Make) -> Make:
    """Write a task with services and no network."""
    return make_service_task


def left() -> list[str]:
    """What this process has at the engine or on this machine."""
    mark = f"-{os.getpid()}-"
    with open_engine() as engine:
        kinds = (
            engine.list_containers(OWNER_LABEL),
            list_networks(engine, OWNER_LABEL),
            list_volumes(engine, OWNER_LABEL),
        )
        found = [name for kind in kinds for name, labels in kind.items() if mark in labels[OWNER_LABEL]]
    return found + [str(path) for path in folders_place().glob(f"{FOLDER_PREFIX}*{mark}*")]


def failed(verdict: Verdict, code: str) -> str:
    assert verdict.outcome is Outcome.UNSCORED, verdict
    assert verdict.failure is not None
    assert verdict.failure.code == code, verdict.failure
    return verdict.failure.message


def test_the_solution_asks_a_service_by_name_and_no_work_scores_0(make: Make, foreign_tasks: ModuleType) -> None:
    folder = make()
    assert foreign_tasks.grade_task(folder, foreign_tasks.ORACLE).reward == 1.0
    assert foreign_tasks.grade_task(folder, foreign_tasks.NO_OP).reward == 0.0
    assert left() == []


def test_commands_and_artifacts_of_services_are_carried_to_the_verifier(make: Make, foreign_tasks: ModuleType) -> None:
    toml = (
        f'{OFFLINE}[verifier.environment]\nnetwork_mode = "no-network"\n'
        '[[verifier.collect]]\nservice = "db"\ncommand = "sort -u /var/asked > /var/told; id -un >> /var/told"\n'
        '[[verifier.collect]]\nservice = "db"\nuser = "user"\ncommand = "id -un; false"\n'
    ).replace("[verifier]\n", 'artifacts = [{ source = "/var/told", service = "db" }]\n[verifier]\n', 1)
    script = '#!/bin/sh\n[ "$(echo $(cat /var/told))" = "/ /answer root" ] && echo 1 > /logs/verifier/reward.txt\n'
    recipe = f"FROM {foreign_tasks.BASE}\nCOPY test.sh /tests/test.sh\n"
    files = {"task.toml": toml, "tests/test.sh": script, "tests/Dockerfile": recipe}
    verdict = foreign_tasks.grade_task(make(files), foreign_tasks.ORACLE)
    assert verdict.reward == 1.0, verdict
    notes = [item.rationale for item in verdict.components if item.evidence.get("role") == "note"]
    assert any("collect command failed: id -un; false: user" in note for note in notes), notes


COLLECTS = '[[verifier.collect]]\nservice = "db"\nuser = "{}"\ncommand = "echo 1 > /shared/told"\n'
TOLD = {
    "solution/solve.sh": "#!/bin/sh\n",
    "tests/test.sh": "#!/bin/sh\n[ -e /shared/told ]; echo $((1 - $?)) > /logs/verifier/reward.txt\n",
}


def test_a_command_that_a_service_cannot_run_is_the_task_s_own_fault(make: Make, foreign_tasks: ModuleType) -> None:
    verdict = foreign_tasks.grade_task(
        make({**TOLD, "task.toml": OFFLINE + COLLECTS.format("nobody-here")}), foreign_tasks.NO_OP
    )
    assert verdict.reward == 0.0, verdict
    notes = [item.rationale for item in verdict.components if item.evidence.get("role") == "note"]
    assert any("nobody-here" in note for note in notes), notes


def test_an_engine_that_does_not_answer_is_nobodys_reward(
    make: Make, foreign_tasks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envfarm.sandbox.docker import service_group

    folder = make({**TOLD, "task.toml": OFFLINE + COLLECTS.format("root")})
    assert foreign_tasks.grade_task(folder, foreign_tasks.NO_OP).reward == 1.0

    def unanswered(engine: Engine, *_: object) -> tuple[int, bytes, bytes]:
        with engine.asked("a command in a service"):
            raise TimeoutError

    monkeypatch.setattr(service_group, "run_inside", unanswered)
    failed(foreign_tasks.grade_task(folder, foreign_tasks.NO_OP), "engine_unreachable")


def test_two_gradings_of_a_task_do_not_meet(make: Make, foreign_tasks: ModuleType, service_tasks: ModuleType) -> None:
    count = "#!/bin/sh\nfor n in 1 2 3 4 5; do python3 /opt/ask.py http://db/$$ > /dev/null; sleep 0.2; done\n"
    toml = OFFLINE + '[[verifier.collect]]\nservice = "db"\ncommand = "sort -u /var/asked > /shared/told"\n'
    script = '#!/bin/sh\n[ "$(grep -cv "^/$" /shared/told)" = 1 ] && echo 1 > /logs/verifier/reward.txt\n'
    folder = make({"task.toml": toml, "solution/solve.sh": count, "tests/test.sh": script})
    foreign_tasks.grade_task(folder, foreign_tasks.NO_OP)  # the images are there
    rewards = []

    async def grade() -> None:
        def run() -> float | None:
            return foreign_tasks.grade_task(folder, foreign_tasks.ORACLE).reward  # type: ignore[no-any-return]

        rewards.append(await anyio.to_thread.run_sync(run))

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(grade)
            group.start_soon(grade)

    anyio.run(both)
    assert rewards == [1.0, 1.0]
    assert left() == []


def test_variables_of_this_machine_are_not_seen_but_those_that_the_task_asks_for(
    make: Make, foreign_tasks: ModuleType, service_tasks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SECRET", "TASK_VARIABLE_SECRET", "ASKED"):
        monkeypatch.setenv(name, "of-this-machine")
    told = {"ANSWER": "${SECRET:-none}/${ASKED}/${GIVEN:-}/$$HOME/${FROM_FILE}", "SECRET": None}
    environment = [f"{name}={value}" if value else name for name, value in told.items()]
    document = service_tasks.merged(db={"environment": environment})
    files = {
        "task.toml": OFFLINE + 'env = { ASKED = "${ASKED}", GIVEN = "given" }\n',
        "environment/.env": "FROM_FILE=file\nGIVEN=other\n",
        "tests/test.sh": "#!/bin/sh\nfound=$(python3 /opt/ask.py http://db/)\necho $found\n"
        '[ "$found" = "none/asked/given/\\$HOME/file" ] && echo 1 > /logs/verifier/reward.txt\n',
    }
    environ = {"ASKED": "asked", "SECRET": "of-this-machine"}
    assert foreign_tasks.grade_task(make(files, document), foreign_tasks.NO_OP, environ=environ).reward == 1.0


def test_texts_that_look_like_numbers_stay_as_they_are_written(
    make: Make, foreign_tasks: ModuleType, service_tasks: ModuleType
) -> None:
    answer = {"ANSWER": "1e400", "B": "0o17", "C": "010", "D": "1_0", "E": "1:30", "F": "yes"}
    document = service_tasks.merged(db={"environment": answer}, main={"environment": answer})
    files = {
        "tests/test.sh": '#!/bin/sh\n[ "$(python3 /opt/ask.py http://db/)" = 1e400 ] '
        '&& [ "$B $C $D $E $F" = "0o17 010 1_0 1:30 yes" ] && echo 1 > /logs/verifier/reward.txt\n',
    }
    assert foreign_tasks.grade_task(make(files, document), foreign_tasks.NO_OP).reward == 1.0


@pytest.mark.parametrize("name", ["PYTHONHOME", "PATH", "DOCKER_HOST", "COMPOSE_PROJECT_NAME"])
def test_variables_of_a_task_change_nothing_of_the_compose_command(
    make: Make, foreign_tasks: ModuleType, service_tasks: ModuleType, name: str
) -> None:
    document = service_tasks.merged(db={"environment": {"ANSWER": f"${{{name}}}"}})
    files = {
        "task.toml": OFFLINE + f'env = {{ {name} = "/nowhere" }}\n',
        "tests/test.sh": "#!/bin/sh\nPATH=/usr/bin:/bin; unset PYTHONHOME\n"
        '[ "$(python3 /opt/ask.py http://db/)" = /nowhere ] && echo 1 > /logs/verifier/reward.txt\n',
    }
    assert foreign_tasks.grade_task(make(files, document), foreign_tasks.NO_OP).reward == 1.0


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            {"healthcheck": {"test": "echo not yet; false", "interval": "50ms", "retries": 2}},
            "db is unhealthy: not yet",
        ),
        ({"command": ["sh", "-c", "echo broken; exit 3"], "healthcheck": {"disable": True}}, "db ended with 3: broken"),
    ],
)
def test_a_service_that_does_not_come_up_is_the_tasks_failure(
    make: Make, foreign_tasks: ModuleType, service_tasks: ModuleType, table: dict[str, Any], words: str
) -> None:
    condition = "service_healthy" if "disable" not in table["healthcheck"] else "service_started"
    document = service_tasks.merged(db=table, main={"depends_on": {"db": {"condition": condition}}})
    document["services"]["late"] = {"image": foreign_tasks.BASE, "depends_on": {"db": {"condition": condition}}}
    document["services"]["late"]["command"] = "sleep 600"
    verdict = foreign_tasks.grade_task(make({}, document), foreign_tasks.NO_OP)
    assert words in failed(verdict, "sandbox_start")
    assert verdict.failure.attribution is Attribution.TASK
    assert left() == []


def test_a_service_that_is_too_slow_is_told(make: Make, foreign_tasks: ModuleType, service_tasks: ModuleType) -> None:
    check = {"test": "false", "interval": "100ms", "retries": 100_000}
    toml = OFFLINE + "build_timeout_sec = 4.0\n"
    folder = make({}, service_tasks.merged(db={"healthcheck": {"disable": True}}))
    foreign_tasks.grade_task(folder, foreign_tasks.NO_OP)  # the images are there
    folder = make({"task.toml": toml}, service_tasks.merged(db={"healthcheck": check}))
    message = failed(foreign_tasks.grade_task(folder, foreign_tasks.NO_OP), "sandbox_start")
    assert "not ready within 4 s: the service db" in message
    assert left() == []


def test_services_are_bounded_and_have_few_rights(
    make: Make, foreign_tasks: ModuleType, service_tasks: ModuleType
) -> None:
    show = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null | head -1"
    rights = "grep -E 'CapBnd|NoNewPrivs' /proc/1/status | cut -f2"
    document = service_tasks.merged(db={"mem_limit": "64m", "ports": ["80:80"], "restart": "always"})
    toml = OFFLINE + f'[[verifier.collect]]\nservice = "db"\ncommand = "({show}; {rights}) > /shared/told"\n'
    script = (
        "#!/bin/sh\nset -- $(cat /shared/told)\n"
        "[ $1 = 67108864 ] && [ $3 = 1 ] && [ $((0x$2 & 0x8002000)) = 0 ] && echo 1 > /logs/verifier/reward.txt\n"
    )
    folder = make({"task.toml": toml, "tests/test.sh": script}, document)
    assert foreign_tasks.grade_task(folder, foreign_tasks.NO_OP).reward == 1.0


def test_main_has_what_its_service_says(make: Make, foreign_tasks: ModuleType, service_tasks: ModuleType) -> None:
    main = {
        "environment": {"COLOUR": "blue", "TASK": "file"},
        "command": ["sh", "-c", "id -un > /tmp/started; exec sleep 600"],
        "user": "user",
        "working_dir": "/srv",
        "networks": {"default": {"aliases": ["front"]}, "back": {}},
        "volumes": ["shared:/shared", "./conf:/conf:ro", "${HOST_VERIFIER_LOGS_PATH}:${ENV_VERIFIER_LOGS_PATH}"],
        "healthcheck": {
            "test": ["CMD-SHELL", "test -s /tmp/started && test $$COLOUR:$$TASK = blue:toml"],
            "interval": "200ms",
        },
        "mem_limit": "${MEMORY}",
    }
    document = service_tasks.merged(main=main, late={"image": foreign_tasks.BASE, "depends_on": ["main"]})
    document["services"]["late"] |= {"command": "getent hosts front", "networks": ["default"]}
    document["services"]["inner"] = {
        "build": "./db",
        "networks": ["back"],
        "container_name": "hidden",
        "volumes": ["shared:/shared"],
    }
    document["networks"] = {"back": None}
    script = (
        '#!/bin/sh\nset -x\n[ "$(id -un):$COLOUR:$TASK:$PWD:$(cat /tmp/started):$(cat /conf/a)" = '
        "user:blue:toml:/srv:user:A ] && python3 /opt/ask.py http://hidden/ && ! touch /conf/b"
        " && echo 1 > /logs/verifier/reward.txt\n"
    )
    files = {
        "task.toml": OFFLINE + 'env = { TASK = "toml" }\n',
        "tests/test.sh": script,
        "environment/conf/a": "A",
        "environment/Dockerfile": service_tasks.compose_files(foreign_tasks.BASE)["environment/Dockerfile"]
        + "RUN mkdir -p /srv\n",
    }
    verdict = foreign_tasks.grade_task(make(files, document), foreign_tasks.NO_OP)
    assert verdict.reward == 1.0, verdict
    assert left() == []


def test_a_compose_file_that_is_no_part_of_the_package_is_told(make: Make, foreign_tasks: ModuleType) -> None:
    with pytest.raises(TaskError, match=r"docker-compose\.yaml: .*\.gitignore"):
        foreign_tasks.grade_task(make({".gitignore": "docker-compose.yaml\n"}), foreign_tasks.NO_OP)


def test_without_a_compose_command_nothing_runs_and_the_line_says_how_to_get_one(
    make: Make, foreign_tasks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envfarm.sandbox.docker import compose_command

    folder = make()
    monkeypatch.setattr(compose_command, "_PLUGIN_FOLDERS", ())
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match=r"^environment/docker-compose\.yaml needs .*make docker") as caught:
        foreign_tasks.grade_task(folder, foreign_tasks.NO_OP)
    assert "\n" not in str(caught.value)


def test_what_the_compose_command_refuses_is_told_in_one_line(
    make: Make, foreign_tasks: ModuleType, service_tasks: ModuleType
) -> None:
    for table in ({"environment": {"A": "${B:?nobody says B}"}}, {"healthcheck": 3}):
        with pytest.raises(
            TaskError, match=r"^environment/docker-compose\.yaml: the compose command refuses it"
        ) as told:
            foreign_tasks.grade_task(make({}, service_tasks.merged(db=table)), foreign_tasks.NO_OP)
        assert "\n" not in str(told.value)
        assert str(folders_place()) not in str(told.value)
    assert left() == []


def test_the_command_line_grades_and_audits_such_a_task(make: Make) -> None:
    folder = make()
    program = str(Path(sys.executable).with_name("envfarm"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *words], capture_output=True, text=True, check=False)

    done = run("grade", str(folder), "--oracle", "--json")
    assert json.loads(done.stdout)["reward"] == 1.0, done.stderr
    done = run("audit", str(folder), "--cheat", "process_exit", "--json")
    assert [row["name"] for row in json.loads(done.stdout)["rows"]] == ["process_exit"], done.stderr
    done = run("images", "ls")
    assert "envfarm-foreign" in done.stdout, done.stderr
    with open_engine() as engine:
        kinds = (list_networks(engine, OWNER_LABEL), list_volumes(engine, OWNER_LABEL))
        assert not [name for kind in kinds for name, labels in kind.items() if is_dead(labels[OWNER_LABEL])]
