"""Tasks and work of other makers that mean harm: nothing of it is a reward, hangs, or reaches the other container."""

import importlib.util
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from envfarm.errors import Attribution
from envfarm.foreign.request import Work, WorkKind
from envfarm.foreign.workspace import pack_workspace
from envfarm.records.verdict import Verdict

Make = Callable[[Mapping[str, str | None]], Path]
SEPARATE = (
    'artifacts = ["/app/out"]\n[verifier]\ntimeout_sec = 60.0\nenvironment_mode = "separate"\n'
    '[environment]\nnetwork_mode = "no-network"\n'
)
COMPARE = """\
#!/bin/sh
if cmp -s /app/out/answer /tests/expected; then echo 1; else echo 0; fi > /logs/verifier/reward.txt
"""


def load_tasks() -> ModuleType:
    path = Path(__file__).parents[1] / "data" / "foreign_tasks.py"
    spec = importlib.util.spec_from_file_location("foreign_tasks_of_attacks", path)
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


def failure_of(verdict: Verdict) -> str | None:
    return None if verdict.failure is None else verdict.failure.code


# As `python3` in the box writes them, since a box's own tar is the worker's to replace.
FORGE = """\
#!/bin/bash
cat > /usr/local/bin/forge <<'END'
#!/usr/bin/python3
import io, sys, tarfile
with tarfile.open(sys.argv[2], "w") as archive:
    def add(name, kind, link="", data=b"", **headers):
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode, info.size, info.pax_headers = kind, link, 0o755, len(data), headers
        archive.addfile(info, io.BytesIO(data))
    add("app/out", tarfile.DIRTYPE)
    %s
END
chmod 755 /usr/local/bin/forge
cp /usr/local/bin/forge /bin/tar; rm -f /usr/bin/tar; cp /usr/local/bin/forge /usr/bin/tar
mkdir -p /app/out
"""
THROUGH_LINKS = (
    'add("app/out/p", tarfile.SYMTYPE, "."); add("app/out/p/p/answer", tarfile.SYMTYPE, "../../tests/expected")'
)
HOLES = (
    'add("app/out/answer", tarfile.REGTYPE, data=b"0\\n0\\n".ljust(512, b"\\0"), **{"GNU.sparse.major": "1", '
    '"GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40), "GNU.sparse.name": "app/out/answer"})'
)


def test_an_artifact_cannot_lead_to_the_tests_of_the_container_that_judges(make: Make) -> None:
    files = {"task.toml": SEPARATE, "tests/test.sh": COMPARE, "tests/expected": "secret\n"}
    honest = "#!/bin/sh\nmkdir -p out && echo secret > out/answer\n"
    assert tasks.grade_task(make({**files, "solution/solve.sh": honest}), ORACLE).reward == 1.0
    verdict = tasks.grade_task(make({**files, "solution/solve.sh": FORGE % THROUGH_LINKS}), ORACLE)
    assert verdict.reward == 0.0, verdict.failure


def test_an_artifact_that_says_it_is_huge_is_a_typed_failure(make: Make) -> None:
    files = {"task.toml": SEPARATE, "tests/test.sh": COMPARE, "tests/expected": "secret\n"}
    verdict = tasks.grade_task(make({**files, "solution/solve.sh": FORGE % HOLES}), ORACLE)
    assert failure_of(verdict) == "verifier_error"
    assert verdict.failure is not None
    assert "cannot be taken out" in verdict.failure.message


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("mkdir /logs/verifier/reward.json; echo 1 > /logs/verifier/reward.txt", "reward_malformed"),
        ("mkfifo /logs/verifier/reward.txt", "reward_malformed"),
        ("ln -s /dev/zero /logs/verifier/reward.txt", "reward_malformed"),
        ("ln /etc/hostname /logs/verifier/reward.txt || echo x > /logs/verifier/reward.txt", "reward_malformed"),
        ("printf '{\"\\\\ud800\": 1}' > /logs/verifier/reward.json", "reward_malformed"),
        ("rm -rf /logs; ln -s /proc/self /logs", "reward_malformed"),
        ("truncate -s 2G /logs/verifier/reward.json", "reward_malformed"),
        ("(yes | head -c 200M)", "reward_missing"),
    ],
)
def test_a_reward_file_that_is_none_is_a_typed_failure(make: Make, script: str, code: str) -> None:
    verdict = tasks.grade_task(make({"tests/test.sh": f"#!/bin/bash\n{script}\n"}), NO_OP)
    assert failure_of(verdict) == code, verdict


@pytest.mark.parametrize("row", ["judge:x:abc:1::/:/bin/sh", f"judge:x:{9**20}:0::/:/bin/sh"])
def test_users_that_the_work_spoilt_are_a_typed_failure(make: Make, row: str) -> None:
    toml = '[verifier]\nuser = "judge"\n[environment]\nnetwork_mode = "no-network"\n'
    solve = f"#!/bin/sh\necho '{row}' > /etc/passwd\n"
    assert (
        failure_of(tasks.grade_task(make({"task.toml": toml, "solution/solve.sh": solve}), ORACLE)) == "verifier_error"
    )


def test_a_workspace_brings_no_program_of_roots(make: Make, tmp_path: Path) -> None:
    toml = '[agent]\nuser = "user"\n[verifier]\nuser = "user"\n[environment]\nnetwork_mode = "no-network"\n'
    script = "#!/bin/bash\ntest -u /app/program || test -g /app/program; echo $? > /logs/verifier/reward.txt\n"
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "program").write_text("#!/bin/sh\n")
    (workspace / "program").chmod(0o6755)
    work = Work(kind=WorkKind.WORKSPACE, content=pack_workspace(workspace))
    assert tasks.grade_task(make({"task.toml": toml, "tests/test.sh": script}), work).reward == 1.0


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become a user who may not read: run as root")
def test_a_workspace_that_cannot_be_read_whole_is_refused(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from envfarm.foreign.workspace import pack_workspace\n"
        "from envfarm.errors import UserError\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n    pack_workspace(Path(sys.argv[1]))\nexcept UserError as error:\n    print(error)\n"
    )
    (tmp_path / "closed").mkdir(mode=0o700)
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(stat.S_IMODE(parent.stat().st_mode) | 0o055)  # what everybody may write stays so
    said = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "closed: Permission denied" in said.stdout, said


@pytest.mark.parametrize("step", ["while :; do echo on; sleep 0.2; done", "sleep 600"])
def test_a_build_that_does_not_end_is_ended_and_so_is_the_command(make: Make, step: str) -> None:
    recipe = f"FROM envfarm-base:bookworm-2\nRUN : {os.getpid()}; {step}\n"
    toml = "[verifier]\n[environment]\nbuild_timeout_sec = 3.0\n"
    folder = make({"task.toml": toml, "environment/Dockerfile": recipe})
    words = [str(Path(sys.executable).with_name("envfarm")), "grade", str(folder), "--no-op", "--sandbox", "docker"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done
    assert "not done within 3 s" in done.stdout
    deadline = time.monotonic() + 20
    while building() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not building()


def building() -> list[str]:
    words = ["docker", "ps", "--all", "--no-trunc", "--format", "{{.Command}}"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if f": {os.getpid()};" in line]


@pytest.mark.parametrize(
    ("files", "code", "attribution"),
    [
        ({"environment/.dockerignore": b"[z-a]\n"}, "image_build", Attribution.TASK),
        ({"environment/.dockerignore": b"\xff\xfe\n"}, "image_build", Attribution.TASK),
        ({"environment/Dockerfile": b"\xff\n"}, "image_build", Attribution.TASK),
        ({"environment/Dockerfile": b"FROM 127.0.0.1:1/none:1\n"}, "container_image_pull", Attribution.FARM),
    ],
)
def test_a_recipe_that_is_none_is_the_tasks_and_a_registry_that_is_away_is_not(
    make: Make, files: dict[str, bytes], code: str, attribution: Attribution
) -> None:
    folder = make({})
    for name, content in files.items():
        (folder / name).write_bytes(content)
    verdict = tasks.grade_task(folder, NO_OP)
    assert verdict.failure is not None
    assert (verdict.failure.code, verdict.failure.attribution) == (code, attribution), verdict.failure


def test_a_build_has_no_more_than_half_of_the_memory(make: Make) -> None:
    recipe = (
        "FROM envfarm-base:bookworm-2\nRUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max "
        f"2>/dev/null > /limit; : {time.time()}\n"
    )
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    script = f'#!/bin/sh\n[ "$(cat /limit)" -le {half} ] && echo 1 > /logs/verifier/reward.txt\n'
    assert tasks.grade_task(make({"environment/Dockerfile": recipe, "tests/test.sh": script}), NO_OP).reward == 1.0
