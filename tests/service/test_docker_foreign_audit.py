"""The cheat collection, tried on tasks of other makers with their own verifiers, in real containers."""

import importlib.util
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

from envfarm.audit.foreign_trial import apply_to_workspace
from envfarm.errors import TaskError


def envfarm(*words: object) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("envfarm")
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False)


@pytest.fixture
def harbor_task(tmp_path: Path, docker_base: str, foreign_tasks: ModuleType) -> Path:
    """A Python task whose test.sh believes a program's exit code, as most do."""
    files = {
        "environment/Dockerfile": f"FROM {docker_base}\nWORKDIR /app\nCOPY adder.py ./\n",
        "environment/adder.py": "def add(a, b):\n    return a - b\n",
        "solution/solve.sh": "#!/bin/sh\nsed -i 's/a - b/a + b/' adder.py\n",
        "tests/test_add.py": (
            "import sys\nimport unittest\n\nsys.path.insert(0, '/app')\nimport adder\n\n\n"
            "class Case(unittest.TestCase):\n    def test_add(self):\n        self.assertEqual(adder.add(2, 3), 5)\n"
        ),
        "tests/test.sh": (
            '#!/bin/sh\npython3 /tests/run.py && r=1 || r=0\necho "{\\"reward\\": $r}" > /logs/verifier/reward.json\n'
        ),
        "tests/run.py": "import unittest\nunittest.main('test_add', argv=['x'])\n",
    }
    found: Path = foreign_tasks.write_task(tmp_path / "task", docker_base, files)
    return found


def test_a_harbor_task_whose_verifier_believes_an_exit_code_pays_for_cheats(harbor_task: Path) -> None:
    names = ("process_exit", "runner_unittest_asserts", "tests_deleted", "resources_disk", "patch_malformed")
    options = [word for name in names for word in ("--cheat", name)]
    done = envfarm("audit", harbor_task, *options, "--json", "--jobs", 2)
    assert done.returncode == 1, done.stderr
    words = {row["name"]: row["theirs"] for row in json.loads(done.stdout)["rows"]}
    assert words == {
        "process_exit": "accepted",
        "runner_unittest_asserts": "accepted",
        "tests_deleted": "-",
        "resources_disk": "-",
        "patch_malformed": "-",
    }


def test_a_swebench_task_is_asked_with_its_eval_and_log(tmp_path: Path, docker_base: str) -> None:
    path = Path(__file__).parents[1] / "data" / "swebench_task.py"
    spec = importlib.util.spec_from_file_location("swebench_task_of_audit", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = module.write_swebench_task(tmp_path / "tasks" / "somebody__adder-1", docker_base)
    options = [word for name in ("process_exit", "runner_unittest_asserts") for word in ("--cheat", name)]
    done = envfarm("audit", folder, *options)
    assert done.returncode == 1, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["cheat", "family", "theirs"]
    assert rows[1:3] == [["runner_unittest_asserts", "runner", "accepted"], ["process_exit", "process", "refused"]]
    assert "theirs accepts 1 of 2 submissions" in done.stdout


def test_a_task_whose_own_solution_earns_nothing_is_refused(harbor_task: Path) -> None:
    (harbor_task / "solution" / "solve.sh").write_text("#!/bin/sh\n")
    done = envfarm("audit", harbor_task, "--cheat", "process_exit")
    assert (done.returncode, done.stdout) == (2, "")
    assert "its own solution earns 0" in done.stderr


def test_a_diff_is_applied_to_a_packed_workspace() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, mode in (("a.py", 0o755), ("b.py", 0o644)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = 4, mode
            archive.addfile(member, io.BytesIO(b"old\n"))
    patch = b"--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-old\n+new\n--- /dev/null\n+++ b/c.py\n@@ -0,0 +1 @@\n+more\n"
    with tarfile.open(fileobj=io.BytesIO(apply_to_workspace(packed.getvalue(), patch))) as archive:
        found = {info.name: (info.mode, archive.extractfile(info).read()) for info in archive}  # type: ignore[union-attr]
    assert found == {"a.py": (0o755, b"new\n"), "b.py": (0o644, b"old\n"), "c.py": (0o644, b"more\n")}
    with pytest.raises(TaskError):
        apply_to_workspace(packed.getvalue(), patch.replace(b"-old", b"-other"))
