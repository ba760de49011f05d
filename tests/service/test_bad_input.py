"""Bad input of `envfarm mine` and its neighbours: one clear line, the right exit code, nothing left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "from envfarm.cli.main import main; main()"


def envfarm(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ENVFARM_CACHE_FOLDER": str(folder / "cache")} | variables
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plain").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "theirs").write_text("keep")
    git(tmp_path, "init", "-q", "empty")
    git(tmp_path, "init", "-q", "untested")
    for number in range(3):
        (tmp_path / "untested" / "a.py").write_text(f"x = {number}\n")
        git(tmp_path / "untested", "add", "-A")
        git(tmp_path / "untested", "commit", "-qm", f"c{number}")
    (tmp_path / "edge.issues").write_text("nothing of the kind")
    git(tmp_path, "clone", "-q", f"{tmp_path}/untested", "corrupt")
    git(tmp_path / "corrupt", "repack", "-qad")
    for pack in (tmp_path / "corrupt" / ".git" / "objects" / "pack").glob("*.pack"):
        pack.chmod(0o644)
        pack.write_bytes(pack.read_bytes()[:40] + bytes(60) + pack.read_bytes()[100:])
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{tmp_path}/untested", "shallow")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mine", "--repo", "empty", "--out", "out"], "no commits"),
        (["mine", "--repo", "plain", "--out", "out"], "no git repository"),
        (["mine", "--repo", "missing", "--out", "out"], "neither a folder"),
        (["mine", "--repo", "shallow", "--out", "out"], "git fetch --unshallow"),
        (["mine", "--repo", "https://localhost:1/x.git", "--out", "out"], "cannot be cloned"),
        (["mine", "--repo", "pypi:sqlparse[2..1]", "--out", "out"], "turn the bounds round"),
        (["mine", "--repo", "pypi:sqlparse[a..b]", "--out", "out"], "is no version"),
        (["mine", "--repo", "untested", "--out", "full"], "not empty"),
        (["mine", "--repo", "untested", "--out", "out", "--since", "yesterday"], "is not a date"),
        (["mine", "--repo", "untested", "--out", "out", "--issues", "missing"], "cannot be read"),
        (["mine", "--repo", "untested", "--out", "out", "--since", "2024-01-31x"], "is not a date"),
        (["mine", "--repo", "untested", "--out", "out", "--until", "2024-13-01"], "is not a date"),
        (["mine", "--repo", "untested", "--out", "out", "--issues", "edge.issues"], "holds no issue"),
        (["mine", "--repo", "corrupt", "--out", "out"], "git fsck"),
        (["mine", "--repo", "", "--out", "out"], "neither a folder"),
        (["grade", "missing", "--oracle"], "no folder"),
        (["grade", "plain"], "exactly one of"),
        (["ledger", "status", "plain"], "no ledger"),
        (["task", "show", "plain"], "task.toml"),
        (["task", "export", "--format", "swebench-jsonl", "--out", "x", "missing"], "no folder"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_users_mistake_is_one_line_with_exit_code_2(folder: Path, words: list[str], said: str) -> None:
    done = envfarm(folder, *words)
    told = [line for line in done.stderr.splitlines() if line.startswith("envfarm: ")]
    assert (done.returncode, len(told)) == (2, 1), done.stderr
    assert said in told[0]
    assert "Traceback" not in done.stderr
    assert not (folder / "out").exists()
    assert [path.name for path in (folder / "full").iterdir() if not path.name.startswith(".")] == ["theirs"]


def test_a_history_without_tests_publishes_nothing_and_says_why(folder: Path) -> None:
    done = envfarm(folder, "mine", "--repo", "untested", "--out", "out", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["candidates"] == 0
    assert "source and tests" in " ".join(done.stderr.split())
    status = json.loads(envfarm(folder, "ledger", "status", "out", "--json").stdout)
    assert {(line["code"], line["count"]) for line in status["stages"]} == {("ROOT_COMMIT", 1), ("NO_TEST_CHANGE", 2)}


def test_a_history_of_only_merges_has_its_candidates(folder: Path) -> None:
    repository = folder / "merges"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    git(repository, "commit", "-q", "--allow-empty", "-m", "begin")
    for number in range(2):
        git(repository, "checkout", "-q", "-b", f"side{number}")
        (repository / "tests").mkdir(exist_ok=True)
        for path in ("a.py", "tests/test_a.py"):
            (repository / path).write_text(f"x = {number}\n")
            git(repository, "add", "-A")
            git(repository, "commit", "-qm", "half of it")
        git(repository, "checkout", "-q", "main")
        git(repository, "merge", "-q", "--no-ff", "-m", f"Merge pull request #{number} from x/y", f"side{number}")
    unreachable = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    done = envfarm(folder, "mine", "--repo", "merges", "--out", "out", "--json", **unreachable)
    told = json.loads(done.stdout)
    assert (done.returncode, told["candidates"], told["rejected"]) == (1, 2, {"FARM_ERROR": 2}), done.stderr


@pytest.mark.parametrize("damaged", ["task.toml", "tests/expected.json", "environment/workspace.tar.xz"])
def test_a_damaged_task_is_refused_by_the_name_of_the_file(folder: Path, damaged: str, tiny_task: object) -> None:
    from envfarm.formats.harbor import render_task_toml, write_package
    from envfarm.records.task import TaskPackage

    package = getattr(tiny_task, "package", None)
    if not isinstance(package, TaskPackage):
        pytest.fail("the tiny task has no package")

    files = {**package.files, "environment/workspace.tar.xz": b"x", "environment/requirements.txt": b""}
    files["instruction.md"] = package.task.statement.text.encode()
    files["task.toml"] = render_task_toml(package.task, files)
    whole = TaskPackage(task=package.task, files=files)
    write_package(whole, folder / "task")
    (folder / "task" / damaged).write_bytes(b"\xff damaged")
    done = envfarm(folder, "grade", "task", "--oracle")
    assert done.returncode == 2
    assert damaged in done.stderr


def test_the_module_of_the_command_is_the_command(folder: Path) -> None:
    words = [sys.executable, "-m", "envfarm.cli.main", "nosuchverb"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, "nosuchverb" in done.stderr) == (2, True)
