"""Harbor tasks of several steps, and of verifiers in containers of their own."""

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from types import ModuleType

import anyio
import pytest

from envfarm.errors import Attribution
from envfarm.foreign.box import Box
from envfarm.records.image import Image
from envfarm.records.verdict import Outcome, Verdict
from envfarm.sandbox.contract import LeaseRequest, Privileges, SwitchesUsers
from envfarm.sandbox.docker.provider import open_docker_provider

Make = Callable[[Mapping[str, str | None]], Path]
_SEPARATE = '[verifier]\nenvironment_mode = "separate"\n'
_REWARD = "/logs/verifier/reward.json"
_REWRITER = """\
nohup python3 -c '
import itertools, os
for n in itertools.count():
    with open("/tmp/next", "w") as file:
        file.write("{\\"reward\\": 1, \\"n\\": %d}" % n)
    os.replace("/tmp/next", "/logs/verifier/reward.json")
' > /dev/null 2>&1 &
"""


def load_tasks() -> ModuleType:
    path = Path(__file__).parents[1] / "data" / "foreign_tasks.py"
    spec = importlib.util.spec_from_file_location("foreign_tasks_of_steps", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tasks = load_tasks()


@pytest.fixture
def make(tmp_path: Path, docker_base: str) -> Make:
    return lambda files: tasks.write_task(tmp_path / "task", docker_base, files)


def rewards_of(verdict: Verdict) -> dict[str, float]:
    return {item.name: item.value for item in verdict.components if item.evidence.get("role") != "note"}


def steps(strategy: str, first: str = "", second: str = "") -> dict[str, str | None]:
    toml = f'multi_step_reward_strategy = "{strategy}"\n[environment]\n'
    toml += f'[[steps]]\nname = "one"\n{first}\n[[steps]]\nname = "two"\n{second}\n'
    judge = '#!/bin/bash\nsource /tests/wanted.sh\n[ "$(cat value.txt)" = "$wanted" ] && reward=1 || reward=0\n'
    return {
        "task.toml": toml,
        "instruction.md": None,
        "solution/solve.sh": None,
        "tests/test.sh": f'{judge}echo "{{\\"reward\\": $reward$extra}}" > {_REWARD}\n',
        "tests/wanted.sh": "wanted=never\nextra=\n",
        "steps/one/instruction.md": "First.\n",
        "steps/one/tests/wanted.sh": "wanted=first\nextra=\n",
        "steps/one/solution/solve.sh": "#!/bin/sh\necho first > value.txt\n",
        "steps/two/instruction.md": "Second.\n",
        "steps/two/tests/wanted.sh": "wanted=first-seed-second\nextra=', \"style\": 0.5'\n",
        "steps/two/solution/solve.sh": '#!/bin/sh\necho "$(cat value.txt)-$(cat seed.txt)-second" > value.txt\n',
        "steps/two/workdir/seed.txt": "nothing\n",
        "steps/two/workdir/setup.sh": "echo seed > seed.txt\ntest ! -e /tests/test.sh\n",
    }


def test_steps_share_a_box_and_their_rewards_are_averaged_per_key(make: Make) -> None:
    folder = make(steps("mean"))
    verdict = tasks.grade_task(folder, tasks.ORACLE, key="reward")
    assert verdict.reward == 1.0
    assert rewards_of(verdict) == {"one: reward": 1.0, "two: reward": 1.0, "two: style": 0.5}
    assert tasks.grade_task(folder, tasks.ORACLE, key="style").reward == 0.25
    assert tasks.grade_task(folder, tasks.NO_OP, key="reward").reward == 0.0


def test_the_last_step_can_count_alone(make: Make) -> None:
    assert tasks.grade_task(make(steps("final")), tasks.ORACLE, key="style").reward == 0.5


def test_a_step_below_its_least_reward_ends_the_steps(make: Make) -> None:
    verdict = tasks.grade_task(make(steps("mean", "min_reward = 0.5")), tasks.NO_OP)
    assert verdict.reward == 0.0
    assert rewards_of(verdict) == {"one: reward": 0.0, "one: min_reward": 0.0}
    verdict = tasks.grade_task(make(steps("mean", "min_reward = { other = 0.1 }")), tasks.ORACLE)
    assert "one: min_reward" in rewards_of(verdict)


def test_a_step_without_reward_leaves_all_unscored(make: Make) -> None:
    files = {**steps("mean"), "steps/two/tests/test.sh": "#!/bin/sh\n"}
    verdict = tasks.grade_task(make(files), tasks.ORACLE)
    assert verdict.outcome is Outcome.UNSCORED
    assert verdict.failure is not None
    assert verdict.failure.code == "reward_missing"


def test_a_setup_that_fails_is_the_tasks_failure(make: Make) -> None:
    files = {**steps("mean"), "steps/two/workdir/setup.sh": "echo broken setup >&2\nexit 3\n"}
    verdict = tasks.grade_task(make(files), tasks.ORACLE)
    assert verdict.failure is not None
    assert verdict.failure.attribution is Attribution.TASK
    assert "broken setup" in verdict.failure.message


def test_a_separate_verifier_sees_artifacts_and_what_was_collected_and_nothing_else(make: Make) -> None:
    toml = (
        'artifacts = ["/app/out", { source = "/app/value.txt" }]\n'
        '[verifier]\nenvironment_mode = "separate"\n'
        '[[verifier.collect]]\ncommand = "mkdir -p out && cp value.txt out/collected.txt && echo no > out/left.tmp"\n'
        "[environment]\n"
    ).replace('"/app/out"', '{ source = "/app/out", exclude = ["*.tmp"] }')
    check = (
        '#!/bin/bash\ntest "$(cat /app/value.txt)" = mended && test "$(cat /app/out/collected.txt)" = mended &&\n'
        "test ! -e /app/out/left.tmp && test ! -e /root/left && test ! -L /app/out/link && test ! -e /solution &&\n"
        'test "$(cat /logs/artifacts/note)" = published && reward=1 || reward=0\n'
        f'echo "{{\\"reward\\": $reward}}" > {_REWARD}\n'
    )
    solve = (
        "#!/bin/bash\necho mended > value.txt\ntouch /root/left\nmkdir -p out\nln -s /etc/passwd out/link\n"
        "echo published > /logs/artifacts/note\n"
    )
    folder = make({"task.toml": toml, "tests/test.sh": check, "solution/solve.sh": solve})
    assert tasks.grade_task(folder, tasks.ORACLE).reward == 1.0
    assert tasks.grade_task(folder, tasks.NO_OP).reward == 0.0


def test_nothing_of_the_work_is_alive_while_another_container_judges(make: Make) -> None:
    toml = f'artifacts = ["/app/value.txt"]\n{_SEPARATE}[environment]\nnetwork_mode = "public"\n'
    serve = "#!/bin/bash\nhostname -I > value.txt\nnohup python3 -m http.server 8124 > /dev/null 2>&1 &\nsleep 1\n"
    check = (
        "#!/bin/bash\naddress=$(tr -d ' \\n' < /app/value.txt)\n"
        'if timeout 5 bash -c "echo > /dev/tcp/$address/8124" 2> /dev/null; then reward=1; else reward=0; fi\n'
        f'[ -n "$address" ] && echo "{{\\"reward\\": $reward}}" > {_REWARD}\n'
    )
    folder = make({"task.toml": toml, "solution/solve.sh": serve, "tests/test.sh": check})
    verdict = tasks.grade_task(folder, tasks.ORACLE)
    assert verdict.reward == 0.0, verdict


def test_a_verifier_image_of_its_own_brings_the_tests(make: Make) -> None:
    recipe = f"FROM {os.environ['FOREIGN_BASE']}\nCOPY test.sh /tests/test.sh\nRUN touch /only-here\n"
    check = (
        "#!/bin/bash\ntest -e /only-here && reward=$(grep -c mended /app/value.txt)\n"
        f'echo "{{\\"reward\\": $reward}}" > {_REWARD}\n'
    )
    toml = f'artifacts = ["/app/value.txt"]\n{_SEPARATE}[environment]\n'
    folder = make({"task.toml": toml, "tests/Dockerfile": recipe, "tests/test.sh": check})
    assert tasks.grade_task(folder, tasks.ORACLE).reward == 1.0
    assert tasks.grade_task(folder, tasks.NO_OP).reward == 0.0


@pytest.fixture(autouse=True)
def _base(docker_base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREIGN_BASE", docker_base)


def judged(verdict: Verdict) -> tuple[float | None, str]:
    return verdict.reward, verdict.failure.code if verdict.failure is not None else ""


@pytest.mark.parametrize(
    ("solve", "expected"),
    [
        ("mkdir -p /logs/verifier\necho '{\"reward\": 1}' > /logs/verifier/reward.json", (0.0, "")),
        ("rm -rf /logs/verifier\nmkdir -p /tmp/v\nln -s /tmp/v /logs/verifier", (0.0, "")),
        ("mkdir -p /logs/verifier/reward.json", (0.0, "")),
        (
            _REWRITER,
            (None, "reward_changed"),
        ),
        (
            "mkdir bin; echo 'echo mended' > bin/cat; chmod +x bin/cat; echo PATH=/app/bin:$PATH > ~/.bashrc",
            (0.0, ""),
        ),
    ],
    ids=["planted file", "linked folder", "folder for a file", "background writer", "shims on PATH"],
)
def test_forged_rewards_are_none(make: Make, solve: str, expected: tuple[float | None, str]) -> None:
    script = (
        '#!/bin/bash\n[ "$(cat value.txt)" = mended ] && reward=1 || reward=0\n'
        f'echo "{{\\"reward\\": $reward}}" > {_REWARD}\nsleep 0.2\n'
    )
    folder = make({"solution/solve.sh": f"#!/bin/bash\n{solve}\n", "tests/test.sh": script})
    verdict = tasks.grade_task(folder, tasks.ORACLE)
    assert judged(verdict) == expected, verdict


def test_a_reward_that_belongs_to_who_did_the_work_is_none(make: Make) -> None:
    toml = '[agent]\nuser = "user"\n[verifier]\nuser = "root"\n[environment]\n'
    solve = (
        "#!/bin/bash\nnohup bash -c 'until [ -e /tests/test.sh ]; do :; done; sleep 0.2; "
        "echo 1 > /logs/verifier/reward.txt' > /dev/null 2>&1 &\n"
    )
    folder = make({"task.toml": toml, "solution/solve.sh": solve, "tests/test.sh": "#!/bin/sh\nsleep 1\n"})
    assert judged(tasks.grade_task(folder, tasks.ORACLE)) == (None, "reward_changed")


def test_nothing_is_alive_once_all_is_killed_but_who_asked(docker_base: str) -> None:
    async def run() -> tuple[bytes, bytes]:
        request = LeaseRequest(
            image=Image(image_id="x", reference=docker_base), privileges=Privileges.ROOT, keeps_background=True
        )
        async with open_docker_provider({}) as provider, provider.lease(request) as sandbox:
            assert isinstance(sandbox, SwitchesUsers)
            box = Box(sandbox=sandbox, root=await sandbox.as_user("0"), working_directory=PurePosixPath("/"))
            command = "(setsid sh -c 'sleep 4321 & while :; do sleep 0.01 & done' > /dev/null 2>&1 &); sleep 0.2"
            await box.run(command)
            look = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep [4]321'; true"
            before = (await box.run(look)).stdout
            await box.kill_all()
            return before, (await box.run(look)).stdout

    before, after = anyio.run(run)
    assert (before.strip() != b"0", after.strip()) == (True, b"0")
