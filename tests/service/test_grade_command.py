"""`envfarm grade` as a person or a program calls it: one verdict, one exit code, one line for a mistake."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

SOURCE = "src/tiny/__init__.py"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(tiny_task: "TinyTask", cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_task.write(tmp_path_factory.mktemp("tasks") / "tiny-0001", cache)


def envfarm(*words: object, cache: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", "from envfarm.cli.main import main; main()", "grade", *map(str, words)]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("ENVFARM_")}
    return subprocess.run(
        command, input=stdin, capture_output=True, check=False, env=variables | {"ENVFARM_CACHE_FOLDER": str(cache)}
    )


def test_the_oracle_scores_one_in_one_json_object(folder: Path, cache: Path) -> None:
    done = envfarm(folder, "--oracle", "--json", cache=cache)
    verdict = json.loads(done.stdout)
    assert (done.returncode, verdict["outcome"], verdict["reward"]) == (0, "scored", 1.0), done.stderr
    assert verdict["provenance"]["task_digest"].startswith("sha256:")


def test_no_change_scores_zero_for_people_to_read(folder: Path, cache: Path) -> None:
    done = envfarm(folder, "--no-op", cache=cache)
    text = " ".join(done.stdout.decode().split())
    assert done.returncode == 0, done.stderr
    assert "tiny-0001 reward 0" in text
    assert "NO fail_to_pass 0 of 2 pass not passed: tests/test_more.py::test_more failed" in text


def test_a_patch_comes_from_a_file_or_standard_input(
    folder: Path, cache: Path, tiny_task: "TinyTask", tmp_path: Path
) -> None:
    patch = tiny_task.patch({SOURCE: tiny_task.fixed, "conftest.py": "import os\n"})
    (tmp_path / "fix.diff").write_bytes(patch)
    done = envfarm(folder, "--patch", tmp_path / "fix.diff", cache=cache)
    assert b"reward 1" in done.stdout
    assert b"conftest.py: created: belongs to the grader" in done.stdout
    again = envfarm(folder, "--patch", "-", "--json", cache=cache, stdin=patch)
    assert json.loads(again.stdout)["reward"] == 1.0


def test_a_changed_workspace_is_graded_by_its_difference(
    folder: Path, cache: Path, tiny_task: "TinyTask", tmp_path: Path
) -> None:
    shutil.copytree(tiny_task.folder / "workspace", tmp_path / "work")
    (tmp_path / "work" / SOURCE).write_text(tiny_task.fixed)
    done = envfarm(folder, "--workspace", tmp_path / "work", "--json", cache=cache)
    assert json.loads(done.stdout)["reward"] == 1.0, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "exactly one of --patch FILE, --workspace DIR, --oracle, --no-op"),
        (["--oracle", "--no-op"], "exactly one of"),
        (["--patch", "/nowhere.diff"], "--patch /nowhere.diff cannot be read"),
        (["--workspace", "/nowhere"], "--workspace /nowhere is no folder"),
        (["--oracle", "--sandbox", "locl"], "did you mean 'local'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(words: list[str], message: str, folder: Path, cache: Path) -> None:
    done = envfarm(folder, *words, cache=cache)
    assert done.returncode == 2
    assert done.stdout == b""
    assert message in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_a_folder_that_is_no_task_is_a_mistake(cache: Path, tmp_path: Path) -> None:
    done = envfarm(tmp_path, "--oracle", cache=cache)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"task.toml" in done.stderr


def test_a_damaged_task_is_refused_by_the_name_of_the_file(folder: Path, cache: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "task")
    with (tmp_path / "task/tests/reference.tar.xz").open("ab") as file:
        file.write(b"x")
    done = envfarm(tmp_path / "task", "--oracle", cache=cache)
    assert done.returncode == 2
    assert b"tests/reference.tar.xz" in done.stderr


def test_the_example_in_the_documentation_grades(
    folder: Path, cache: Path, tiny_task: "TinyTask", tmp_path: Path
) -> None:
    text = (Path(__file__).parents[2] / "docs/grading.md").read_text()
    example = text.split("```python\n", 1)[1].split("```", 1)[0]
    (tmp_path / "mined/tasks").mkdir(parents=True)
    (tmp_path / "mined/tasks/tiny-0001").symlink_to(folder)
    (tmp_path / "cache").symlink_to(cache)
    (tmp_path / "fix.diff").write_bytes(tiny_task.patch({SOURCE: tiny_task.fixed}))
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.startswith(b"scored 1.0\nsubmission_applied 1.0 the patch applies\n")
