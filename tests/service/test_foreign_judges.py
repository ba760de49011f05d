"""Harbor's and SWE-bench's own programs judge what we write: loader, digest, linter, checks, log parser."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from uv import find_uv_bin

from envfarm.errors import MissingToolError
from envfarm.formats.harbor import package_digest, read_package, write_package
from envfarm.formats.harbor_package import read_files
from envfarm.formats.lint import lint_task
from envfarm.formats.swebench import read_repository, to_row, write_repository
from envfarm.images.interpreters import bring_interpreter
from envfarm.records.task import FIX_PATCH, TEST_PATCH, TaskPackage

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

Judge = Callable[..., list[dict[str, Any]]]

_HARBOR = """
import json, pathlib, sys, warnings
from harbor.lint import lint_task
from harbor.lint.models import DEFAULT_RULES
from harbor.models.task.task import Task
from harbor.publisher.packager import Packager
for folder in map(pathlib.Path, sys.argv[1:]):
    told = {"rules": sorted({finding.rule.value for finding in lint_task(folder)})}
    told["errors"] = sorted({finding.rule.value for finding in lint_task(folder, selected_rules=set(DEFAULT_RULES))})
    try:
        told["digest"] = "sha256:" + Packager.compute_content_hash(folder)[0]
        task = Task(folder)
        told |= {"name": task.config.task and task.config.task.name, "instruction": task.instruction}
    except Exception as error:
        told["error"] = repr(error)
    print(json.dumps(told))
"""
_SWEBENCH = """
import json, pathlib, sys
from swebench.harness.grading import get_logs_eval
from swebench.types import TestSpec
row = json.loads(pathlib.Path(sys.argv[1]).read_text())
for log in sys.argv[2:]:
    spec = TestSpec(row["instance_id"], row["image"], [], row["repo"], row["version"], json.loads(row["FAIL_TO_PASS"]),
        json.loads(row["PASS_TO_PASS"]), row["log_parser"], row["eval_type"])
    print(json.dumps(get_logs_eval(spec, log)[0]))
"""


def make_judge(name: str, version: str) -> Path:
    """Return an environment that holds one judge, made once per machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "envfarm-tests"
    folder = cache / f"{name}-{version}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").is_file():
            try:
                python = bring_interpreter("3.12", cache_folder=cache).executable
            except MissingToolError:
                pytest.skip("Python 3.12 is missing: `uv python install 3.12` brings it")
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([find_uv_bin(), "venv", "-q", "-p", python, folder], check=True)
            packages = [find_uv_bin(), "pip", "install", "-q", "-p", folder, f"{name}=={version}"]
            subprocess.run(packages, check=True)
            (folder / "complete").touch()
    return folder


@pytest.fixture(scope="session")
def harbor() -> Judge:
    python = make_judge("harbor", "0.25.0") / "bin" / "python"

    def judge(*folders: Path) -> list[dict[str, Any]]:
        done = subprocess.run(
            [python, "-W", "ignore", "-c", _HARBOR, *folders], capture_output=True, text=True, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    return judge


@pytest.fixture(scope="session")
def swebench() -> Path:
    return make_judge("swebench", "5.0.2") / "bin"


@pytest.fixture(scope="session")
def task_folder(tiny_task: "TinyTask", tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    return tiny_task.write(folder / "tasks" / "tiny-0001", folder / "cache")


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_harbor_loads_our_task_with_the_same_digest_and_its_linter_is_content(harbor: Judge, task_folder: Path) -> None:
    package = read_package(task_folder)
    (told,) = harbor(task_folder)
    assert told["digest"] == package.digest
    assert told["name"] == "envfarm/tiny-0001"
    assert told["instruction"].strip() == package.task.statement.text.strip()
    assert told["errors"] == []


IGNORE_CASES = {
    "leftovers": {"tests/__pycache__/a.pyc": b"", "tests/a.swp": b"", "environment/b~": b"", "tests/.DS_Store": b""},
    "unknown_at_the_top": {
        "notes.txt": b"",
        "extra/a": b"",
        ".gitignore": b"",
        "README.md": b"r",
        "trajectory.json": b"{}",
    },
    "gitignore": {
        ".gitignore": b"*.log\n!keep.log\nbuild/\n",
        "tests/a.log": b"",
        "tests/keep.log": b"",
        "tests/build/x": b"",
    },
    "gitignore_replaces_leftovers": {".gitignore": b"*.log\n", "tests/a.pyc": b"", "tests/a.swp": b""},
    "harborignore": {
        "tests/.harborignore": b"data/\n*.bin\n",
        "tests/data/x": b"",
        "tests/a.bin": b"",
        "solution/a.bin": b"",
    },
    "harborignore_below": {
        "tests/.harborignore": b"*.bin\n",
        "tests/sub/.harborignore": b"!kept.bin\nother\n",
        "tests/sub/kept.bin": b"",
        "tests/sub/gone.bin": b"",
        "tests/sub/other": b"",
    },
    "harborignore_elsewhere": {".harborignore": b"*\n", "environment/.harborignore": b"*\n", "environment/a": b""},
    "steps": {"steps/one/instruction.md": b"do", "steps/one/tests/.harborignore": b"x\n", "steps/one/tests/x": b""},
    "sorting": {
        "tests/a-b": b"1",
        "tests/a/b": b"2",
        "tests/a.b": b"3",
        "tests/\xc3\xa4".encode("latin-1").decode(): b"4",
    },
}


def test_digests_agree_with_harbors_on_ignore_files_and_leftovers(harbor: Judge, tmp_path: Path) -> None:
    base = {
        "task.toml": b'schema_version = "1.4"\n',
        "instruction.md": b"do",
        "environment/Dockerfile": b"FROM scratch\n",
    }
    base |= {"tests/test.sh": b"true\n", "solution/solve.sh": b"true\n"}
    folders = [write_files(tmp_path / name, base | files) for name, files in IGNORE_CASES.items()]
    ours = [package_digest(read_files(folder)[0]) for folder in folders]
    theirs = [told["digest"] for told in harbor(*folders)]
    assert dict(zip(IGNORE_CASES, ours, strict=True)) == dict(zip(IGNORE_CASES, theirs, strict=True))


GOOD_TOML = """
schema_version = "1.4"
artifacts = ["/workspace"]
[task]
name = "a/b"
[agent]
user = "worker"
[verifier]
environment_mode = "separate"
"""
GOOD = {
    "task.toml": GOOD_TOML.encode(),
    "instruction.md": b"Do it.\n",
    "environment/Dockerfile": b"FROM a@sha256:" + b"0" * 64 + b"\n",
    "tests/test.sh": b"#!/bin/sh\ntrue\n",
    "solution/solve.sh": b"true\n",
}


def with_toml(old: str, new: str) -> dict[str, bytes | None]:
    assert old in GOOD_TOML
    return {"task.toml": GOOD_TOML.replace(old, new).encode()}


def with_test(text: str) -> dict[str, bytes | None]:
    return {"tests/test.sh": text.encode()}


def with_dockerfile(text: str) -> dict[str, bytes | None]:
    return {"environment/Dockerfile": text.encode()}


PINNED = "FROM a@sha256:" + "0" * 64 + "\n"
LINT_CASES: dict[str, dict[str, bytes | None]] = {
    "nothing": {},
    "no_toml": {"task.toml": None},
    "broken_toml": {"task.toml": b"a = ["},
    "no_instruction": {"instruction.md": None},
    "empty_instruction": {"instruction.md": b"<!-- canary 1 -->\n\n"},
    "no_tests": {"tests/test.sh": None},
    "no_environment": {"environment/Dockerfile": None},
    "image_instead_of_environment": {
        "environment/Dockerfile": None,
        **with_toml("[agent]", "[environment]\ndocker_image = 'a:1'\n[agent]"),
    },
    "old_version_key": with_toml('schema_version = "1.4"', 'version = "1.0"'),
    "unknown_key": with_toml("[agent]", "[agent]\ntimeout_secs = 1"),
    "unknown_nested_key": with_toml("[agent]", "[environment.healthcheck]\ncommand = 'a'\nretry = 2\n[agent]"),
    "unknown_section": with_toml("[agent]", "[agents]\na = 1\n[agent]"),
    "wrong_type": with_toml("[agent]", "[agent]\ntimeout_sec = 'soon'"),
    "wrong_network_mode": with_toml("[agent]", "[agent]\nnetwork_mode = 'none'"),
    "hosts_without_allowlist": with_toml("[agent]", "[agent]\nallowed_hosts = ['a.org']"),
    "wrong_name": with_toml('"a/b"', '"b"'),
    "conflicting_memory": with_toml("[agent]", "[environment]\nmemory = '2G'\nmemory_mb = 1\n[agent]"),
    "old_memory": with_toml("[agent]", "[environment]\nmemory = '2G'\n[agent]"),
    "shared_with_environment": with_toml('"separate"', '"shared"\n[verifier.environment]\ncpus = 1'),
    "shared": with_toml('"separate"', '"shared"'),
    "separate_by_environment": with_toml('environment_mode = "separate"', "[verifier.environment]\ncpus = 1"),
    "root_by_omission": with_toml('user = "worker"', ""),
    "root_by_number": with_toml('user = "worker"', "user = 0"),
    "root_with_group": with_toml('user = "worker"', "user = 'root:root'"),
    "artifact_of_logs": with_toml('["/workspace"]', '["/logs/verifier/x"]'),
    "artifact_above_logs": with_toml('["/workspace"]', '["/logs"]'),
    "artifacts_overlap": with_toml('["/workspace"]', '["/a", {source = "/b", destination = "a/c"}]'),
    "artifact_covered": with_toml('["/workspace"]', '["/a", "/a/b"]'),
    "artifact_twice_with_exclude": with_toml('["/workspace"]', '["/a", {source = "/a", exclude = ["x"]}]'),
    "artifact_up": with_toml('["/workspace"]', '["/a/../b"]'),
    "artifact_manifest": with_toml('["/workspace"]', '[{source = "/a", destination = "manifest.json"}]'),
    "unpinned_image": with_dockerfile("FROM python:3.12.1-slim\n"),
    "stages": with_dockerfile(PINNED.strip() + " AS one\nFROM one\nFROM --platform=linux/amd64 scratch\n"),
    "image_by_variable": with_dockerfile("ARG A=b\nFROM $A\n"),
    "unpinned_pip": with_dockerfile(PINNED + "RUN apt-get update && \\\n  pip install --no-cache-dir requests\n"),
    "pinned_pip": with_dockerfile(PINNED + "RUN pip install requests==2.0 'numpy==1.*' -r r.txt ./here x.whl\n"),
    "pip_by_constraint": with_dockerfile(PINNED + "RUN pip install -c c.txt requests\n"),
    "pip_of_git": with_dockerfile(PINNED + "RUN pip install git+https://a.org/b@main\n"),
    "pip_upgrade_of_pip": with_dockerfile(PINNED + "RUN python -m pip install --upgrade pip\n"),
    "uvx_with": with_dockerfile(PINNED + "RUN uvx --with numpy tool==1.0 more\n"),
    "heredoc": with_dockerfile(PINNED + "RUN <<EOF\npip install requests\nEOF\n"),
    "comment": with_dockerfile(PINNED + "# RUN pip install requests\n"),
    "exec_form": with_dockerfile(PINNED + 'RUN ["pip", "install", "requests"]\n'),
    "copies_test": with_dockerfile(PINNED + "COPY tests/test.sh /x\n"),
    "copies_solution": with_dockerfile(PINNED + "ADD --chown=a ../solution/solve.sh /x\n"),
    "copies_else": with_dockerfile(PINNED + "COPY tests/data /x\nCOPY requirements.txt /tests/test.sh\n"),
    "verifier_installs_pytest": with_test("pip install pytest==8.0\n"),
    "verifier_installs_else": with_test("pip install requests==8.0\n"),
    "verifier_installs_offline": with_test("pip install --no-index pytest==8.0\n"),
    "shared_verifier_installs": {
        **with_toml('"separate"', '"shared"'),
        **with_test("pip install pytest==8.0\ncurl -O https://a.org/x\n"),
    },
    "verifier_curls": with_test("curl -LsSf https://a.org/install.sh | sh\n"),
    "verifier_curls_to_file": with_test("curl -o x https://a.org/x\n"),
    "verifier_probes": with_test(
        "curl -s https://a.org/health\nwget -qO- https://a.org/x\ncurl http://localhost:80/x -o y\n"
    ),
    "verifier_wgets": with_test("wget https://a.org/x\n"),
    "verifier_clones": with_test("git clone https://a.org/x\ngit fetch https://a.org/x\n"),
    "solution_unpinned": {"solution/solve.sh": b"pip install requests\n"},
    "tests_have_image": {"tests/test.sh": None, "tests/Dockerfile": b"FROM a:1\n"},
}


def test_lint_ids_agree_with_harbors_on_every_kind_of_mistake(harbor: Judge, tmp_path: Path) -> None:
    folders = []
    for name, changes in LINT_CASES.items():
        files = {path: content for path, content in (GOOD | changes).items() if content is not None}
        folders.append(write_files(tmp_path / name, files))
    ours = {folder.name: sorted({problem.rule for problem in lint_task(folder)}) for folder in folders}
    theirs = {folder.name: told["rules"] for folder, told in zip(folders, harbor(*folders), strict=True)}
    assert ours == theirs


def test_swebench_accepts_our_repository_and_reads_the_rows_that_we_write(
    swebench: Path, task_folder: Path, tmp_path: Path
) -> None:
    package = with_test_patch(
        read_package(task_folder),
        b"diff --git a/t b/t\nnew file mode 100644\n--- /dev/null\n+++ b/t\n@@ -0,0 +1 @@\n+\xff\n",
    )
    repository = tmp_path / "repository"
    assert write_repository([package], repository) == 1
    checked = subprocess.run(
        [swebench / "swebench", "dataset", "check", repository], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, "well formed" in checked.stdout) == (0, True), checked.stdout + checked.stderr
    ((row, _),) = read_repository(repository)
    said = {
        key: value
        for key, value in to_row(package).items()
        if key in row.row and key not in {"FAIL_TO_PASS", "PASS_TO_PASS"}
    }
    assert {key: row.row[key] for key in said} == said
    assert row.fail_to_pass == package.task.tests.fail_to_pass
    (repository / "tasks" / package.task.task_id / "eval.sh").unlink()
    again = subprocess.run(
        [swebench / "swebench", "dataset", "check", repository], capture_output=True, text=True, check=False
    )
    assert again.returncode != 0


def with_test_patch(package: TaskPackage, patch: bytes) -> TaskPackage:
    return replace(package, files={**package.files, TEST_PATCH: patch})


HIDDEN_TINY = """\
from tiny import add, greet


def test_greet():
    assert greet('a') == 'hello a'


def test_add():
    assert add(2, 3) == 5
"""
HIDDEN_MORE = """\
import pytest
from tiny import add


@pytest.mark.parametrize('a', [1], ids=['one more'])
def test_more(a):
    assert add(a, 1) == 2
"""


def test_eval_script_tells_a_fix_from_no_fix_to_swebenchs_own_parser(
    swebench: Path, tiny_task: "TinyTask", tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(tiny_task.folder / "workspace", workspace)
    git = ["git", "-C", str(workspace), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "base"]):
        subprocess.run([*git, *words], check=True)
    base = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    hidden = {"tests/test_tiny.py": HIDDEN_TINY, "tests/test_more.py": HIDDEN_MORE}
    package = with_test_patch(tiny_task.package, tiny_task.patch(hidden))
    plan = msgspec.structs.replace(
        package.task.tests, fail_to_pass=("tests/test_more.py::test_more[one more]", "tests/test_tiny.py::test_add")
    )
    source = msgspec.structs.replace(package.task.source, base_commit=base)
    package = replace(package, task=msgspec.structs.replace(package.task, tests=plan, source=source))
    row = to_row(package)
    (tmp_path / "row.json").write_text(json.dumps(row))
    (workspace / "tests" / "test_more.py").write_text("in the way")
    (workspace / "tests" / "test_tiny.py").write_text("def test_add():\n    pass\n")
    logs = []
    for name in ("before", "after"):
        (tmp_path / name).write_text(run_eval(row["eval_script"], workspace, tiny_task))
        logs.append(tmp_path / name)
        if name == "before":
            subprocess.run([*git, "apply", "-"], input=package.files[FIX_PATCH], check=True)
    done = subprocess.run(
        [swebench / "python", "-c", _SWEBENCH, tmp_path / "row.json", *logs], capture_output=True, text=True, check=True
    )
    before, after = (json.loads(line) for line in done.stdout.splitlines())
    assert [before[test] for test in plan.fail_to_pass] == ["FAILED", "FAILED"]
    assert [after[test] for test in (*plan.fail_to_pass, *plan.pass_to_pass)] == ["PASSED"] * 3
    assert ">>>>> Test Exit Code: 0" in logs[1].read_text()


def run_eval(script: str, workspace: Path, tiny_task: "TinyTask") -> str:
    """Return what eval.sh prints where the workspace and the environment lie as in the image."""
    command = ["bwrap", "--unshare-all", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108 -- the box's
    for folder in ("/usr", "/bin", "/lib", "/lib64", "/etc"):
        command += ["--ro-bind-try", folder, folder]
    for folder in tiny_task.image.folders:
        if folder.target != "/workspace":
            command += ["--ro-bind", folder.source, folder.target]
    command += ["--bind", str(workspace), "/workspace", "--setenv", "PATH", "/usr/bin:/bin", "bash", "-c", script]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return done.stdout


def test_a_written_task_is_what_was_read(task_folder: Path, tmp_path: Path) -> None:
    package = read_package(task_folder)
    write_package(package, tmp_path / "again")
    assert read_package(tmp_path / "again") == package
