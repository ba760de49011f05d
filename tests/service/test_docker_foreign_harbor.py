"""Harbor tasks of other makers, in real containers, under Harbor's reward contract."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from envfarm.errors import Attribution, TaskError, UserError
from envfarm.foreign.request import Work, WorkKind
from envfarm.foreign.workspace import pack_workspace
from envfarm.records.verdict import Outcome, Verdict
from envfarm.sandbox.docker.container import OWNER_LABEL
from envfarm.sandbox.owner_mark import is_dead

Make = Callable[[Mapping[str, str | None]], Path]


def load_tasks() -> ModuleType:
    path = Path(__file__).parents[1] / "data" / "foreign_tasks.py"
    spec = importlib.util.spec_from_file_location("foreign_tasks_of_tests", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tasks = load_tasks()
ORACLE, NO_OP = tasks.ORACLE, tasks.NO_OP


@pytest.fixture
def make(tmp_path: Path, docker_base: str) -> Make:
    return lambda files: tasks.write_task(tmp_path / "task", docker_base, files)


def rewards_of(verdict: Verdict) -> dict[str, float]:
    return {item.name: item.value for item in verdict.components if item.evidence.get("role") != "note"}


def notes_of(verdict: Verdict) -> str:
    return "\n".join(item.rationale for item in verdict.components if item.evidence.get("role") == "note")


def test_what_the_script_printed_is_shown(make: Make) -> None:
    verdict = tasks.grade_task(
        make({"tests/test.sh": "#!/bin/sh\necho seen; echo 1 > /logs/verifier/reward.txt\n"}), NO_OP
    )
    assert next(item.evidence["end"] for item in verdict.components if item.name == "output") == "seen\n"
    script = "#!/bin/sh\necho no pytest here >&2\nexit 7\n"
    message = failed(tasks.grade_task(make({"tests/test.sh": script}), NO_OP), "reward_missing")
    assert "exit code 7" in message
    assert "no pytest here" in message


def failed(verdict: Verdict, code: str, attribution: Attribution | None = None) -> str:
    assert verdict.outcome is Outcome.UNSCORED, verdict
    assert verdict.reward is None
    assert verdict.failure is not None
    assert verdict.failure.code == code, verdict.failure
    if attribution is not None:
        assert verdict.failure.attribution is attribution
    return verdict.failure.message


def test_the_solution_scores_1_and_no_work_0(make: Make) -> None:
    folder = make({})
    assert tasks.grade_task(folder, ORACLE).reward == 1.0
    assert tasks.grade_task(folder, NO_OP).reward == 0.0


def test_a_workspace_takes_the_place_of_the_working_directory(make: Make, tmp_path: Path) -> None:
    check = '#!/bin/bash\n[ ! -e stale.txt ] && [ -x run.sh ] && [ "$(./run.sh)" = "$(cat value.txt)" ] && echo 1 > '
    folder = make(
        {
            "environment/Dockerfile": "FROM {base}\nWORKDIR /app\nRUN touch stale.txt\n",
            "tests/test.sh": check + "/logs/verifier/reward.txt\n",
        }
    )
    recipe = folder / "environment" / "Dockerfile"
    recipe.write_text(recipe.read_text().replace("{base}", os.environ["FOREIGN_BASE"]))
    work = tmp_path / "work"
    work.mkdir()
    (work / "value.txt").write_text("mine\n")
    (work / "run.sh").write_text("#!/bin/sh\necho mine\n")
    (work / "run.sh").chmod(0o755)
    verdict = tasks.grade_task(folder, Work(kind=WorkKind.WORKSPACE, content=pack_workspace(work)))
    assert verdict.reward == 1.0


@pytest.fixture(autouse=True)
def _base(docker_base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREIGN_BASE", docker_base)


def test_a_diff_is_no_work_on_a_harbor_task(make: Make) -> None:
    with pytest.raises(UserError, match="--workspace"):
        tasks.grade_task(make({}), Work(kind=WorkKind.PATCH, content=b"x"))


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 0", "reward_missing"),
        (": > /logs/verifier/reward.txt", "reward_empty"),
        ("echo nan > /logs/verifier/reward.txt", "reward_not_finite"),
        ("echo 1 > /logs/verifier/reward.txt; echo '{' > /logs/verifier/reward.json", "reward_malformed"),
        ("echo '{}' > /logs/verifier/reward.json", "reward_empty"),
        ('echo \'{"a": 1, "b": 0}\' > /logs/verifier/reward.json', "reward_ambiguous"),
        ("ln -s /etc/hostname /logs/verifier/reward.txt", "reward_malformed"),
    ],
)
def test_what_is_no_reward_is_a_typed_failure(make: Make, script: str, code: str) -> None:
    failed(tasks.grade_task(make({"tests/test.sh": f"#!/bin/sh\n{script}\n"}), NO_OP), code, Attribution.VERIFIER)


def test_the_exit_code_counts_for_nothing_and_a_key_can_be_chosen(make: Make) -> None:
    script = '#!/bin/sh\necho \'{"a": 0.25, "b": true}\' > /logs/verifier/reward.json\nexit 3\n'
    verdict = tasks.grade_task(make({"tests/test.sh": script}), NO_OP, key="a")
    assert verdict.reward == 0.25
    assert rewards_of(verdict) == {"a": 0.25, "b": 1.0}


def test_a_verifier_that_hangs_is_no_0(make: Make) -> None:
    toml = "[verifier]\ntimeout_sec = 1.0\n[environment]\n"
    verdict = tasks.grade_task(make({"task.toml": toml, "tests/test.sh": "#!/bin/sh\nsleep 60\n"}), NO_OP)
    assert "1 s" in failed(verdict, "verifier_error")


def test_an_image_that_cannot_be_built_is_the_tasks_failure(make: Make) -> None:
    recipe = f"FROM {os.environ['FOREIGN_BASE']}\nRUN echo no such luck && false\n"
    verdict = tasks.grade_task(make({"environment/Dockerfile": recipe}), NO_OP)
    assert "no such luck" in failed(verdict, "image_build", Attribution.TASK)
    assert verdict.failure is not None
    assert verdict.failure.phase == "image"


def test_a_named_image_is_used_and_one_that_is_missing_is_told(make: Make) -> None:
    toml = '[environment]\ndocker_image = "{}"\nworkdir = "/tmp"\n'
    script = "#!/bin/sh\ntest -e loose.txt && test ! -e /tests/hidden.txt && echo 1 > /logs/verifier/reward.txt\n"
    files = {
        "environment/Dockerfile": None,
        "environment/loose.txt": "here\n",
        "tests/.harborignore": "hidden.txt\n",
        "tests/hidden.txt": "no\n",
        "tests/test.sh": script,
    }
    assert tasks.grade_task(make({"task.toml": toml.format(os.environ["FOREIGN_BASE"]), **files}), NO_OP).reward == 1.0
    missing = make({"task.toml": toml.format("localhost:9/no/such:image"), **files})
    verdict = tasks.grade_task(missing, NO_OP)
    assert verdict.outcome is Outcome.UNSCORED
    assert verdict.failure is not None
    assert verdict.failure.code in {"container_image_missing", "container_image_pull"}


def test_variables_come_from_the_task_and_from_this_machine(make: Make) -> None:
    toml = (
        '[environment]\nenv = { COLOUR = "blue" }\n[verifier]\nenv = { KEY = "${SECRET}", MODE = "${UNSET:-plain}" }\n'
        '[solution]\nenv = { MENDED = "mended" }\n'
    )
    script = '#!/bin/sh\n[ "$COLOUR:$KEY:$MODE:$(cat value.txt)" = blue:xyz:plain:mended ] && echo 1 > '
    files = {
        "task.toml": toml,
        "tests/test.sh": script + "/logs/verifier/reward.txt\n",
        "solution/solve.sh": '#!/bin/sh\necho "$MENDED" > value.txt\n',
    }
    folder = make(files)
    assert tasks.grade_task(folder, ORACLE, environ={"SECRET": "xyz"}).reward == 1.0
    with pytest.raises(TaskError, match="SECRET"):
        tasks.grade_task(folder, ORACLE)


def test_users_work_and_judge_as_the_task_says(make: Make) -> None:
    toml = '[agent]\nuser = "user"\n[verifier]\nuser = "nobody"\n[environment]\n'
    script = (
        '#!/bin/sh\necho "{\\"reward\\": $([ "$(id -un):$(cat value.txt)" = nobody:user ] && echo 1 || echo 0)}" > '
    )
    files = {
        "task.toml": toml,
        "tests/test.sh": script + "/logs/verifier/reward.json\n",
        "solution/solve.sh": "#!/bin/sh\nid -un > value.txt\n",
    }
    assert tasks.grade_task(make(files), ORACLE).reward == 1.0
    unknown = make({**files, "task.toml": '[verifier]\nuser = "hans"\n[environment]\n'})
    assert "hans" in failed(tasks.grade_task(unknown, NO_OP), "verifier_error", Attribution.TASK)


@pytest.mark.parametrize(("mode", "devices"), [("no-network", "lo"), ("public", "eth0 lo"), ("allowlist", "lo")])
def test_the_network_is_what_the_task_says(make: Make, mode: str, devices: str) -> None:
    hosts = 'allowed_hosts = ["example.org"]\n' if mode == "allowlist" else ""
    script = f'#!/bin/bash\n[ "$(cd /sys/class/net && echo $(ls | sort))" = "{devices}" ] && echo 1 > '
    files = {
        "task.toml": f'[environment]\nnetwork_mode = "{mode}"\n{hosts}',
        "tests/test.sh": script + "/logs/verifier/reward.txt\n",
    }
    assert tasks.grade_task(make(files), NO_OP).reward == 1.0


def test_a_health_check_is_waited_for_and_one_that_fails_is_told(make: Make) -> None:
    check = '[environment.healthcheck]\ncommand = "{}"\ninterval_sec = 0.05\nretries = 3\n'
    counted = "echo x >> /tmp/count; [ $(wc -l < /tmp/count) -ge 3 ]"
    script = '#!/bin/sh\n[ "$(wc -l < /tmp/count)" = 3 ] && echo 1 > /logs/verifier/reward.txt\n'
    folder = make({"task.toml": check.format(counted), "tests/test.sh": script})
    assert tasks.grade_task(folder, NO_OP).reward == 1.0
    folder = make({"task.toml": check.format("echo not yet >&2; false")})
    message = failed(tasks.grade_task(folder, NO_OP), "sandbox_start", Attribution.TASK)
    assert "not yet" in message


def test_a_solution_that_takes_too_long_is_judged_as_it_is(make: Make) -> None:
    files = {
        "task.toml": "[agent]\ntimeout_sec = 1.0\n[environment]\n",
        "solution/solve.sh": "#!/bin/sh\necho mended > value.txt\nsleep 60\n",
    }
    verdict = tasks.grade_task(make(files), ORACLE)
    assert verdict.reward == 1.0
    assert "1 s" in notes_of(verdict)


def test_what_the_work_left_running_is_there_when_it_is_judged(make: Make) -> None:
    serve = "#!/bin/bash\nnohup sleep 4321 > /dev/null 2>&1 &\n"
    look = "#!/bin/bash\ngrep -qa 4321 /proc/[0-9]*/cmdline && echo 1 > /logs/verifier/reward.txt\n"
    assert tasks.grade_task(make({"solution/solve.sh": serve, "tests/test.sh": look}), ORACLE).reward == 1.0


def test_the_command_line_grades_and_leaves_no_container(make: Make) -> None:
    folder = make({})
    program = [str(Path(sys.executable).with_name("envfarm")), "grade", str(folder)]
    (folder.parent / "work").mkdir()
    (folder.parent / "work" / "value.txt").write_text("mended\n")
    workspace = [*program, "--workspace", str(folder.parent / "work"), "--json"]
    done = subprocess.run(workspace, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["reward"] == 1.0, done.stderr
    done = subprocess.run([*program, "--oracle", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["reward"], told["provenance"]["verifier"], told["task_id"]) == (1.0, "harbor", "task")
    (folder / "tests" / "test.sh").write_text("#!/bin/sh\n")
    done = subprocess.run([*program, "--no-op"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "reward_missing" in done.stdout
    assert "exit code 0 and printed nothing" in " ".join(done.stdout.split())
    done = subprocess.run([*program, "--no-op", "--level", "fast"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    listing = ["docker", "ps", "-a", "--filter", "label=envfarm.lease.purpose=foreign"]
    listing += ["--format", f'{{{{.Label "{OWNER_LABEL}"}}}}']
    owners = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
    assert not [owner for owner in owners if is_dead(owner)]  # others may grade at this moment


def test_a_container_that_is_killed_is_no_reward(make: Make) -> None:
    recipe = f"FROM {os.environ['FOREIGN_BASE']}\nWORKDIR /app\nRUN touch {os.getpid()}\n"
    folder = make({"environment/Dockerfile": recipe})
    verdict = tasks.grade_task(folder, NO_OP)
    assert verdict.provenance is not None
    find = f"docker ps -q --filter ancestor={verdict.provenance.image_id}"
    (folder / "tests" / "test.sh").write_text("#!/bin/sh\necho 1 > /logs/verifier/reward.txt\nsleep 120\n")
    kill = (
        "for i in $(seq 300); do sleep 0.1; "
        f"docker exec $({find}) test -e /logs/verifier/reward.txt && docker kill $({find}) && exit 0; done"
    )
    with subprocess.Popen(["/bin/sh", "-c", kill], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        message = failed(tasks.grade_task(folder, NO_OP), "sandbox_lost", Attribution.SANDBOX)
    assert "killed" in message


def test_a_lost_container_is_replaced_as_often_as_asked(make: Make) -> None:
    folder = make({})
    assert tasks.grade_task(folder, ORACLE, retries=1, lost_boxes=1).reward == 1.0
    failed(tasks.grade_task(folder, ORACLE, retries=1, lost_boxes=2), "sandbox_lost", Attribution.SANDBOX)
