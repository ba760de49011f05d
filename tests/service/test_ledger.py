"""The ledger keeps what it is told, through kills and damage."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from envfarm.errors import OutputFolderError, UserError
from task_miner.ledger import LEDGER_FILE, StageRow, find_candidate, open_ledger
from task_miner.output_folder import claim_folder
from task_miner.reasons import ReasonCode, Stage


def row(name: str, stage: Stage, code: ReasonCode = ReasonCode.OK, seconds: float = 1.0) -> StageRow:
    return StageRow(candidate_id=name, stage=stage, code=code, seconds=seconds, rules="1", source="s")


def test_rows_come_back_in_the_order_of_the_stages(tmp_path: Path) -> None:
    with open_ledger(tmp_path, create=True) as ledger:
        ledger.put([row("p-1", Stage.GATE), row("p-1", Stage.SCAN), row("p-1", Stage.VALIDATE)])
    with open_ledger(tmp_path, create=False) as ledger:
        assert [found.stage for found in ledger.rows_of("p-1")] == [Stage.SCAN, Stage.VALIDATE, Stage.GATE]


def test_the_funnel_counts_rows_and_seconds(tmp_path: Path) -> None:
    with open_ledger(tmp_path, create=True) as ledger:
        ledger.put([row("p-1", Stage.SCAN), row("p-2", Stage.SCAN), row("p-3", Stage.SCAN, ReasonCode.NO_TEST_CHANGE)])
        lines = [(line.code, line.count, line.seconds) for line in ledger.funnel()]
    assert lines == [("OK", 2, 2.0), ("NO_TEST_CHANGE", 1, 1.0)]


def test_forgetting_a_code_names_its_candidates_and_removes_their_rows(tmp_path: Path) -> None:
    with open_ledger(tmp_path, create=True) as ledger:
        ledger.put([row("p-1", Stage.SCAN), row("p-1", Stage.VALIDATE, ReasonCode.FARM_ERROR)])
        assert ledger.forget(ReasonCode.FARM_ERROR) == ("p-1",)
        assert [found.stage for found in ledger.rows_of("p-1")] == [Stage.SCAN]


def test_a_candidate_is_found_by_its_beginning_or_its_commit(tmp_path: Path) -> None:
    with open_ledger(tmp_path, create=True) as ledger:
        ledger.put([row("proj-abc123", Stage.SCAN), row("proj-abd999", Stage.SCAN)])
        assert find_candidate(ledger, "abc") == "proj-abc123"
        assert find_candidate(ledger, "proj-abd") == "proj-abd999"
        with pytest.raises(UserError, match="could be any"):
            find_candidate(ledger, "ab")
        with pytest.raises(UserError, match="no candidate"):
            find_candidate(ledger, "%")


@pytest.mark.parametrize("content", [b"", b"x" * 4096, b"SQLite format 3\0" + b"\0" * 500])
def test_a_damaged_ledger_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEDGER_FILE).write_bytes(content)
    if not content:
        with open_ledger(tmp_path, create=False) as ledger:
            assert ledger.funnel() == ()
        return
    with pytest.raises(OutputFolderError, match="cannot be used"), open_ledger(tmp_path, create=False):
        pass


def test_a_ledger_of_another_release_is_refused(tmp_path: Path) -> None:
    with open_ledger(tmp_path, create=True) as ledger:
        ledger.set_fact("schema_version", "99")
    with pytest.raises(OutputFolderError, match="another release"), open_ledger(tmp_path, create=False):
        pass


def test_rows_survive_a_kill_of_the_writer(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from task_miner.ledger import StageRow, open_ledger\n"
        "from task_miner.reasons import ReasonCode, Stage\n"
        "def row(name):\n"
        "    return StageRow(candidate_id=name, stage=Stage.SCAN, code=ReasonCode.OK, rules='1', source='s')\n"
        "with open_ledger(Path(sys.argv[1]), create=True) as ledger:\n"
        "    for n in range(50):\n"
        "        ledger.put([row(f'p-{n}')])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with open_ledger(tmp_path, create=False) as ledger:
        assert len(list(ledger.rows_in(Stage.SCAN))) == 50


def test_a_folder_of_strangers_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("keep")
    with pytest.raises(OutputFolderError, match="not empty"), claim_folder(tmp_path):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["theirs"]


def test_two_runs_cannot_write_to_one_folder(tmp_path: Path) -> None:
    with (
        claim_folder(tmp_path / "out"),
        pytest.raises(OutputFolderError, match="another"),
        claim_folder(tmp_path / "out"),
    ):
        pass


def test_a_file_as_output_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFolderError, match="is a file"), claim_folder(tmp_path / "file"):
        pass


def test_a_locked_ledger_is_readable_by_a_second_process(tmp_path: Path) -> None:
    with open_ledger(tmp_path, create=True) as ledger:
        ledger.put([row("p-1", Stage.SCAN)])
        reader = sqlite3.connect(f"file:{tmp_path / LEDGER_FILE}?mode=ro", uri=True)
        assert reader.execute("SELECT count(*) FROM stages").fetchone() == (1,)
        reader.close()
