"""Real libraries from the package index become tasks, and the tasks grade as they have to."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

RELEASES = {"sqlparse": "pypi:sqlparse[0.4.3..0.5.0]", "humanize": "pypi:humanize[4.5..4.7]"}


def envfarm(*words: str, cache: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    program = "from envfarm.cli.main import main; main()"
    environment = os.environ | {"ENVFARM_CACHE_FOLDER": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == expect, done.stderr
    return done


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", params=sorted(RELEASES))
def mined(request: pytest.FixtureRequest, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("out") / request.param
    words = ["mine", "--repo", RELEASES[request.param], "--out", str(out), "--limit", "2", "--json"]
    report: dict[str, Any] = json.loads(envfarm(*words, cache=cache).stdout)
    return report | {"out": out, "words": words}


def test_candidates_become_published_tasks_that_name_their_tests(mined: dict[str, Any]) -> None:
    assert mined["published"] >= 1
    assert mined["published"] + sum(mined["rejected"].values()) == mined["candidates"]
    for task in mined["tasks"]:
        assert task["fail_to_pass"]
        assert Path(task["path"]).is_dir()
    assert not list((mined["out"] / "tasks").glob(".*partial*"))


def test_the_true_fix_scores_one_and_no_change_zero(mined: dict[str, Any], cache: Path) -> None:
    path = mined["tasks"][0]["path"]
    assert json.loads(envfarm("grade", path, "--oracle", "--json", cache=cache).stdout)["reward"] == 1.0
    verdict = json.loads(envfarm("grade", path, "--no-op", "--json", cache=cache).stdout)
    assert verdict["reward"] == 0.0
    assert "fail_to_pass" in [item["name"] for item in verdict["components"] if item["value"] < 1]


def test_every_task_passes_its_own_check_and_is_small(mined: dict[str, Any], cache: Path) -> None:
    told = json.loads(envfarm("task", "check", str(mined["out"] / "tasks"), "--json", cache=cache).stdout)
    assert told["errors"] == 0
    for task in mined["tasks"]:
        assert sum(file.stat().st_size for file in Path(task["path"]).rglob("*") if file.is_file()) < 5 << 20


def test_a_second_run_with_nothing_new_takes_seconds_and_says_the_same(mined: dict[str, Any], cache: Path) -> None:
    started = time.monotonic()
    again = json.loads(envfarm(*mined["words"], cache=cache).stdout)
    assert time.monotonic() - started < 30  # mining them takes minutes on a machine that is as busy
    assert [task["id"] for task in again["tasks"]] == [task["id"] for task in mined["tasks"]]


def test_mined_elsewhere_a_task_has_the_same_bytes(mined: dict[str, Any], cache: Path, tmp_path: Path) -> None:
    words = [str(tmp_path / "elsewhere") if word == str(mined["out"]) else word for word in mined["words"]]
    envfarm(*words, cache=cache)
    for task in mined["tasks"]:
        first = Path(task["path"])
        for file in sorted(path for path in first.rglob("*") if path.is_file()):
            other = tmp_path / "elsewhere" / "tasks" / first.name / file.relative_to(first)
            assert other.read_bytes() == file.read_bytes(), file


def test_the_ledger_explains_every_candidate(mined: dict[str, Any], cache: Path) -> None:
    told = json.loads(envfarm("ledger", "status", str(mined["out"]), "--list", "--json", cache=cache).stdout)
    published = [row["id"] for row in told["candidates"] if row["stage"] == "publish"]
    assert sorted(published) == sorted(task["id"] for task in mined["tasks"])
    explained = envfarm("ledger", "explain", str(mined["out"]), published[0], cache=cache).stdout
    assert "validate" in explained


def test_a_killed_run_leaves_nothing_half_written_and_the_next_goes_on(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    program = "from envfarm.cli.main import main; main()"
    words = ["mine", "--repo", RELEASES["sqlparse"], "--out", str(out), "--limit", "1", "--json"]
    environment = os.environ | {"ENVFARM_CACHE_FOLDER": str(cache)}
    with subprocess.Popen(
        [sys.executable, "-c", program, *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 120
        while not list(out.glob("state/*/validate.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert list(out.glob("tasks/*")) == []
    report = json.loads(envfarm(*words, cache=cache).stdout)
    assert report["published"] == 1
    assert not (out / "state").exists() or not any((out / "state").iterdir())


def test_ctrl_c_ends_cleanly_with_what_is_done(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["mine", "--repo", RELEASES["sqlparse"], "--out", str(out), "--limit", "1", "--json"]
    program = "from envfarm.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, *words],
        env=os.environ | {"ENVFARM_CACHE_FOLDER": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 120
        while not list(out.glob("logs/*/environment.log")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in complained
    assert json.loads(said)["published"] == 0
