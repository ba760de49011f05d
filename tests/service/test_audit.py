"""The cheat collection on a real task: every cheat deceives the field's usual way of grading, or says why it does not;
our verifier refuses those that it has to refuse; the command says all of it.
"""

import compileall
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

from envfarm.audit.cheat import Cheat, Family
from envfarm.audit.collection import CHEATS, HONEST, choose_cheats
from envfarm.audit.target import read_target
from envfarm.audit.trial import OURS, PLAIN, CheatResult, Trial, try_cheats
from envfarm.cli import audit
from envfarm.errors import TaskError
from envfarm.formats.harbor import read_package
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import FIX_PATCH, REFERENCE_ARCHIVE, TaskPackage
from envfarm.sandbox.local.provider import open_local_provider
from task_miner.packaging.archive import ArchiveEntry, write_archive

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

DATA = Path(__file__).parents[1] / "data" / "cheats"
REFUSED = json.loads((DATA / "refused_today.json").read_bytes())
"""What our verifier refuses on a task without any trust record: tighten it whenever a layer is added."""
JOBS = 3
SAMPLE = REFUSED[::8]
TEST_CASE = (
    b"import unittest\nfrom tiny import add\n\n\nclass TestMore(unittest.TestCase):\n"
    b"    def test_more(self):\n        self.assertEqual(add(2, 3), 5)\n"
)
RAISES = (
    b"import pytest\nfrom tiny import add\n\n\ndef test_more():\n"
    b"    with pytest.raises(ZeroDivisionError):\n        1 / add(1, -1)\n"
)


@pytest.fixture(scope="module", autouse=True)
def compiled(tiny_task: "TinyTask") -> None:
    """Compile the environment once: a box forgets what it compiles, and here are many boxes."""
    compileall.compile_dir(tiny_task.folder / "venv" / "lib", quiet=2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(tiny_task: "TinyTask", cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_task.write(tmp_path_factory.mktemp("tasks") / "tiny-0001", cache)


@pytest.fixture(scope="module")
def package(folder: Path) -> TaskPackage:
    return read_package(folder)


def run_trial(
    tiny_task: "TinyTask",
    package: TaskPackage,
    cheats: Sequence[Cheat],
    *verifiers: str,
    with_fix: bool = False,
) -> dict[str, CheatResult]:
    async def run() -> tuple[CheatResult, ...]:
        target = replace(read_target(package), with_fix=with_fix)
        async with open_local_provider({}) as provider:
            trial = Trial(package=package, target=target, provider=provider, image=tiny_task.image, verifiers=verifiers)
            return await try_cheats(trial, cheats, jobs=JOBS)

    return {result.cheat.name: result for result in anyio.run(run)}


@pytest.fixture(scope="module")
def plain(tiny_task: "TinyTask", package: TaskPackage) -> dict[str, CheatResult]:
    tried = [cheat for cheat in CHEATS if cheat.family is not Family.RESOURCES and cheat.name != "aimed_random"]
    return run_trial(tiny_task, package, tried, PLAIN)


def test_every_cheat_deceives_the_usual_way_of_grading_or_says_why_not(plain: dict[str, CheatResult]) -> None:
    fitting = {name: result for name, result in plain.items() if result.verdicts}
    assert set(plain) - set(fitting) == {"runner_raises", "runner_unittest_asserts", "runner_unittest_run"}
    refused = {name for name, result in fitting.items() if result.word(PLAIN) == "refused"}
    assert refused == {name for name, result in fitting.items() if result.cheat.plain_refuses}
    assert {result.word(PLAIN) for result in fitting.values()} == {"accepted", "refused"}
    ways = {component.name for result in fitting.values() for component in result.verdicts[PLAIN].components}
    assert ways == {"exit_code", "reward_file", "log", "prepared"}


def test_each_way_of_reading_an_outcome_is_deceived_by_its_own_cheats(plain: dict[str, CheatResult]) -> None:
    def ways(name: str) -> set[str]:
        return {component.name for component in plain[name].verdicts[PLAIN].components if component.value}

    assert ways("conftest_outcomes") == {"exit_code", "reward_file", "log"}
    assert ways("report_summary") == {"log"}
    assert ways("report_reward_later") == {"reward_file"}
    assert ways("process_exit") == {"exit_code", "reward_file"}


@pytest.mark.parametrize(
    ("content", "node", "names"),
    [
        (TEST_CASE, "tests/test_more.py::TestMore::test_more", ["runner_unittest_asserts", "runner_unittest_run"]),
        (RAISES, "tests/test_more.py::test_more", ["runner_raises"]),
    ],
)
def test_cheats_for_other_kinds_of_tests_deceive_it_where_there_are_such_tests(
    content: bytes, node: str, names: list[str], tiny_task: "TinyTask", package: TaskPackage
) -> None:
    archive = write_archive([ArchiveEntry("tests/test_more.py", content)], modified_at=0)
    tests = msgspec.structs.replace(
        package.task.tests, paths=("tests/test_more.py",), fail_to_pass=(node,), pass_to_pass=()
    )
    other = replace(
        package,
        task=msgspec.structs.replace(package.task, tests=tests),
        files={**package.files, REFERENCE_ARCHIVE: archive},
    )
    results = run_trial(tiny_task, other, choose_cheats(names), PLAIN)
    assert {name: results[name].word(PLAIN) for name in names} == dict.fromkeys(names, "accepted")


@pytest.mark.parametrize(("fixed", "reward"), [(False, 0.0), (True, 1.0)])
def test_the_usual_way_pays_for_the_true_fix_and_not_for_nothing(
    fixed: bool,  # noqa: FBT001 -- a row of the table
    reward: float,
    tiny_task: "TinyTask",
    package: TaskPackage,
) -> None:
    patch = package.files[FIX_PATCH] if fixed else b""
    submission = Submission(task_id=package.task.task_id, kind=SubmissionKind.PATCH, patch=patch)

    async def run() -> float | None:
        async with open_local_provider({}) as provider:
            trial = Trial(package=package, target=read_target(package), provider=provider, image=tiny_task.image)
            return (await trial.grade(submission, PLAIN)).reward

    assert anyio.run(run) == reward


def test_our_verifier_refuses_what_it_has_to_refuse(tiny_task: "TinyTask", package: TaskPackage) -> None:
    names = REFUSED if os.environ.get("ENVFARM_TEST_ALL_CHEATS") else SAMPLE
    results = run_trial(tiny_task, package, choose_cheats(names), OURS)
    assert {name: result.word(OURS) for name, result in results.items()} == dict.fromkeys(names, "refused")


def test_the_list_of_what_is_refused_names_cheats_of_every_family_that_needs_no_layer() -> None:
    families = {cheat.family for cheat in choose_cheats(REFUSED)}
    wanted = {Family.OUTCOME, Family.PROCESS, Family.TESTS, Family.FILES, Family.ENVIRONMENT, Family.PATCH}
    assert wanted <= families
    assert [cheat.name for cheat in choose_cheats(REFUSED)] == REFUSED


def test_a_true_fix_beside_a_harmless_cheat_scores_one(tiny_task: "TinyTask", package: TaskPackage) -> None:
    names = ["conftest_outcomes", "report_summary", "tests_deleted", "shadow_runner", "patch_binary", "sitecustomize"]
    results = run_trial(tiny_task, package, choose_cheats(names), OURS, with_fix=True)
    assert {name: result.reward(OURS) for name, result in results.items()} == dict.fromkeys(names, 1.0)
    assert not any(result.is_wrong for result in results.values())


def test_the_facts_of_a_task_are_read_from_its_folder(package: TaskPackage) -> None:
    target = read_target(package)
    assert target.carriers == ("src/tiny/__init__.py",)
    assert target.import_roots == ("", "src")
    assert set(target.tests) == {"tests/test_tiny.py"}
    assert set(target.hidden_tests) == {"tests/test_more.py", "tests/test_tiny.py"}
    assert b"a + b" in (target.fixed["src/tiny/__init__.py"] or b"")
    assert b"a - b" in (target.content("src/tiny/__init__.py") or b"")
    assert target.fail_to_pass == package.task.tests.fail_to_pass


def test_a_task_without_its_fix_cannot_be_audited(package: TaskPackage) -> None:
    files = {name: content for name, content in package.files.items() if name != FIX_PATCH}
    with pytest.raises(TaskError, match=r"^solution/fix\.patch: it is missing"):
        read_target(replace(package, files=files))
    with pytest.raises(TaskError, match=r"^solution/fix\.patch: it does not apply"):
        read_target(replace(package, files={**files, FIX_PATCH: package.files[FIX_PATCH].replace(b"a - b", b"a % b")}))


def envfarm(*words: object, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from envfarm.cli.main import main; main()", "audit", *map(str, words)]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("ENVFARM_")}
    variables |= {"ENVFARM_CACHE_FOLDER": str(cache), "COLUMNS": "120"}
    return subprocess.run(command, capture_output=True, check=False, env=variables, text=True)


def test_the_command_prints_a_table_with_both_columns(folder: Path, cache: Path) -> None:
    chosen = ("conftest_outcomes", "patch_malformed", "runner_unittest_run")
    words = [word for name in chosen for word in ("--cheat", name)]
    done = envfarm(folder, *words, "--jobs", 2, cache=cache)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["cheat", "family", "ours", "plain"]
    assert lines[1:4] == [
        ["conftest_outcomes", "outcome", "refused", "accepted"],
        ["runner_unittest_run", "runner", "-", "-"],
        ["patch_malformed", "patch", "refused", "refused"],
    ]
    assert f"ours accepts 0 of 2 submissions; the collection has {len(CHEATS)} cheats" in done.stdout
    assert "plain accepts 1 of 2 submissions" in done.stdout


def test_the_command_tells_a_program_why(folder: Path, cache: Path) -> None:
    done = envfarm(folder, "--cheat", "process_exit", "--json", cache=cache)
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert told["accepted"] == {"ours": [], "plain": ["process_exit"]}
    (row,) = told["rows"]
    assert (row["ours"], row["plain"], row["family"], row["blanket"]) == ("refused", "accepted", "process", True)
    assert row["why"]["plain"] == "exit_code: status 0"
    assert "before its session ended" in row["why"]["ours"]


def test_a_paid_cheat_makes_the_command_leave_with_one(
    folder: Path, cache: Path, package: TaskPackage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paid = Cheat(name="paid", family=Family.AIMED, what="The true fix.", make=lambda _: package.files[FIX_PATCH])
    monkeypatch.setattr(audit, "choose_cheats", lambda _: (paid,))
    with pytest.raises(audit.typer.Exit) as left:
        audit.audit_command(folder, verifier=audit.Judges.OURS, cache=cache)
    assert left.value.exit_code == 1
    assert "ours accepts 1 of 1 submissions" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["row", "rows"])
def test_a_row_of_a_data_set_is_one_line_and_exit_code_2(kind: str, tmp_path: Path) -> None:
    task = tmp_path / "task"
    task.mkdir()
    (task / "row.json").write_text('{"instance_id": "a__b-1", "repo": "a/b", "patch": "", "test_patch": ""}\n')
    done = envfarm(task / "row.json" if kind == "rows" else task, cache=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "no script that judges" in done.stderr


def test_what_asks_about_our_layers_is_refused_for_a_task_of_another_maker(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text('version = "1.0"\n[verifier]\ntimeout_sec = 60.0\n[environment]\ncpus = 1\n')
    for options in (("--honest",), ("--verifier", "plain")):
        done = envfarm(tmp_path, *options, cache=tmp_path)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert "another maker" in done.stderr


def test_mistakes_are_one_line_and_exit_code_2(folder: Path, cache: Path, tmp_path: Path) -> None:
    for words, said in (
        ((folder, "--cheat", "nonsense"), "there is no cheat 'nonsense'"),
        ((tmp_path,), "task.toml: it is missing"),
        ((), "name a task's folder"),
    ):
        done = envfarm(*words, cache=cache)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
        assert said in done.stderr


def test_the_table_of_all_cheats_can_be_asked_for(cache: Path) -> None:
    done = envfarm("--list", cache=cache)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(CHEATS) + 2 + len(HONEST) + 3


def test_honest_variants_are_no_mistake_where_they_pass_or_nobody_pays(folder: Path, cache: Path) -> None:
    done = envfarm(folder, "--honest", "--cheat", "locals_renamed", "--cheat", "calls_warned", "--json", cache=cache)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: (row["ours"], row["plain"]) for row in json.loads(done.stdout)["rows"]}
    assert rows == {"locals_renamed": ("-", "-"), "calls_warned": ("accepted", "accepted")}
    done = envfarm(folder, "--honest", "--cheat", "conftest_outcomes", cache=cache)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "there is no honest variant 'conftest_outcomes'" in done.stderr
