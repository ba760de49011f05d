"""Tasks of SWE-bench task repositories, in real containers: eval.sh is run, its log is read."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from envfarm.errors import TaskError
from envfarm.foreign.request import Work, WorkKind
from envfarm.foreign.workspace import pack_workspace
from envfarm.records.verdict import Outcome, Verdict


def load_data(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / "data" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_of_swebench", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tasks = load_data("foreign_tasks")


@pytest.fixture
def folder(tmp_path: Path, docker_base: str) -> Path:
    found: Path = load_data("swebench_task").write_swebench_task(tmp_path / "tasks" / "somebody__adder-1", docker_base)
    return found


def patch(text: str) -> Work:
    return Work(kind=WorkKind.PATCH, content=text.encode())


def told(verdict: Verdict, name: str) -> str:
    return next(item.rationale for item in verdict.components if item.name == name)


def test_the_gold_patch_scores_1_and_no_work_0(folder: Path) -> None:
    verdict = tasks.grade_task(folder, tasks.ORACLE)
    assert verdict.reward == 1.0, verdict
    assert verdict.provenance is not None
    assert verdict.provenance.verifier == "swebench"
    verdict = tasks.grade_task(folder, tasks.NO_OP)
    assert verdict.reward == 0.0
    assert "test_add" in told(verdict, "fail_to_pass")


def test_a_diff_and_a_workspace_are_work(folder: Path, tmp_path: Path) -> None:
    gold = (folder / "gold.patch").read_text()
    shifted = gold.replace("@@ -1,5 +1,5 @@", "@@ -31,5 +31,5 @@")
    assert tasks.grade_task(folder, patch(shifted)).reward == 1.0
    wrong = gold.replace("return a + b", "return a * b")
    assert tasks.grade_task(folder, patch(wrong)).reward == 0.0
    work = tmp_path / "work"
    work.mkdir()
    (work / "adder.py").write_text("def add(a, b):\n    return a + b\n\n\ndef name():\n    return 'adder'\n")
    (work / "test_adder.py").write_text((folder / "test_adder.py").read_text())
    verdict = tasks.grade_task(folder, Work(kind=WorkKind.WORKSPACE, content=pack_workspace(work)))
    assert verdict.outcome is Outcome.SCORED  # a copy without .git is worth what eval.sh makes of it


def test_a_diff_that_does_not_apply_scores_0_with_the_reason(folder: Path) -> None:
    verdict = tasks.grade_task(folder, patch("--- a/no.py\n+++ b/no.py\n@@ -1 +1 @@\n-x\n+y\n"))
    assert verdict.reward == 0.0
    assert "does not apply" in told(verdict, "applied")


def test_an_eval_that_never_comes_to_its_tests_is_no_0(folder: Path) -> None:
    (folder / "eval.sh").write_text("#!/bin/bash\nexit 1\n")
    verdict = tasks.grade_task(folder, tasks.NO_OP)
    assert verdict.outcome is Outcome.UNSCORED
    assert verdict.failure is not None
    assert "start marker" in verdict.failure.message


def test_a_parser_that_is_source_is_refused_and_never_run(folder: Path) -> None:
    meta = folder / "task.yaml"
    source = "def parse(log): open('/tmp/envfarm-was-run', 'w')"
    meta.write_text(meta.read_text().replace("parse_log_django", json.dumps(source)))
    with pytest.raises(TaskError, match="log_parser"):
        tasks.grade_task(folder, tasks.NO_OP)


def test_the_command_line_takes_a_patch_from_standard_input(folder: Path) -> None:
    program = [str(Path(sys.executable).with_name("envfarm")), "grade", str(folder), "--patch", "-", "--json"]
    gold = (folder / "gold.patch").read_bytes()
    done = subprocess.run(program, input=gold, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reward"] == 1.0
    done = subprocess.run([program[0], "grade", str(folder.parent.parent), "--no-op"], capture_output=True, check=False)
    assert done.returncode == 2
