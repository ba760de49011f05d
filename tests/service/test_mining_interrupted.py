"""A miner that is killed at the worst moments: nothing half-made is taken for whole, and the next run goes on."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from envfarm.images import remove_unfinished, unfinished_folder
from task_miner.ledger import open_ledger
from task_miner.reasons import Stage

if TYPE_CHECKING:
    from tests.data.package_index import PackageIndex

# Runs the command, and dies by SIGKILL at the point that is named.
PROGRAM = """
import os, signal, sys
import envfarm.formats.new_folder as new_folder
import task_miner.candidate_run as candidate_run
from envfarm.images.install_box import InstallBox
from task_miner.ledger import Ledger
from task_miner.sources.git_command import Downloads

point = sys.argv.pop(1)

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def dying_after(function):
    def call(*arguments, **named):
        function(*arguments, **named)
        die()
    return call

real_uv = InstallBox.uv

async def uv(box, *arguments, **named):
    result = await real_uv(box, *arguments, **named)
    step = "lock" if "compile" in arguments else "build" if "--editable" in arguments else "install"
    if step == point and arguments[0] == "pip":
        die()
    return result

def dying(stage, do, when):
    async def work(shop, candidate):
        if when == "before":
            die()
        end = await do(shop, candidate)
        die()
    return work if stage == point.split()[-1] and when == point.split()[0] else do

InstallBox.uv = uv
candidate_run.STAGES = tuple(
    (stage, dying(stage, dying(stage, do, "after"), "before")) for stage, do in candidate_run.STAGES
)
if point == "clone":
    Downloads.run = dying_after(Downloads.run)
if point == "scan":
    Ledger.put = dying_after(Ledger.put)
if point == "writing the task":
    new_folder._put = die
from envfarm.cli.main import main
main()
"""
POINTS = (
    "clone",
    "scan",
    "lock",
    "install",
    "build",
    "after validate",
    "after gate",
    "writing the task",
)


def test_a_miner_killed_in_every_stage_goes_on_each_time(
    tmp_path: Path, history: ModuleType, package_index: "PackageIndex"
) -> None:
    history.make_history(tmp_path / "repo", fixes=1)
    cache, out = tmp_path / "cache", tmp_path / "out"
    words = ["mine", "--repo", f"file://{tmp_path}/repo", "--out", str(out), "--json"]
    environment = package_index.environment() | {"ENVFARM_CACHE_FOLDER": str(cache), "ENVFARM_MINE__MUTANTS": "1"}

    def mine(point: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROGRAM, point, *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)

    def visible(*names: str) -> list[str]:
        return [path.name for name in names for path in (cache / name).glob("[!.]*")]

    for point in POINTS:
        done = mine(point)
        assert done.returncode == -signal.SIGKILL, (point, done.stderr)
        assert list(out.glob("tasks/[!.]*")) == [], point
        if point == "clone":
            assert visible("clones") == []
        if point in {"clone", "scan", "lock"}:
            assert visible("locks", "environments") == []
        if point == "install":
            assert (len(visible("locks")), visible("environments")) == (1, [])
        if point == "build":
            assert (len(visible("environments")), visible("builds")) == (1, [])
        assert len(list(cache.glob("*/.partial-*"))) <= 3, "what the run before left is removed"

    done = mine("nowhere")
    assert json.loads(done.stdout)["published"] == 1, done.stderr
    with open_ledger(out, create=False) as ledger:
        rows = {row.stage: row for row in ledger.rows_of(json.loads(done.stdout)["tasks"][0]["id"])}
    assert set(rows) == set(Stage)
    assert rows[Stage.VALIDATE].detail == rows[Stage.GATE].detail == "from an earlier run"
    left = [str(path) for path in tmp_path.rglob("*") if "partial" in path.name]
    assert left == []
    assert not any((out / "state").glob("*"))
    assert visible("scratch", "workspaces") == []


def test_what_a_killed_process_was_filling_is_removed_and_what_a_living_one_fills_stays(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom envfarm.images import unfinished_folder\n"
        "with unfinished_folder(Path(sys.argv[1]), 'dead-') as folder:\n"
        "    (folder / 'half').write_text('x')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "environments")], check=False)
    assert [path.name[:14] for path in tmp_path.glob("*/*")] == [".partial-dead-"]
    with unfinished_folder(tmp_path / "environments", "alive-") as folder:
        remove_unfinished(tmp_path)
        assert list(tmp_path.glob("*/*")) == [folder]
        folder.rename(tmp_path / "environments" / "whole")
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.glob("*/*")] == ["whole"]


def test_a_folder_that_could_not_be_filled_is_removed(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), unfinished_folder(tmp_path / "clones") as folder:
        folder.mkdir()
    assert list((tmp_path / "clones").iterdir()) == []
