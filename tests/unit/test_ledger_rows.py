"""A ledger's file may be cut, damaged, foreign or of another release: one clear line, and never a traceback."""

import itertools
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envfarm.errors import OutputFolderError, UserError
from task_miner.ledger import LEDGER_FILE, Ledger, StageRow, find_candidate, open_ledger
from task_miner.reasons import ReasonCode, Stage
from task_miner.scan import known_screens

RULES = "0123456789abcdef"
WORDS = st.text(max_size=12) | st.sampled_from(["\ud83d", "tests/\udce4.py", "a\0b", "%_\\", "'; --"])
NAMES = st.builds(lambda text, digits: f"{text}-{digits}", WORDS, st.from_regex(r"[0-9a-f]{12}", fullmatch=True))
ROWS = st.builds(
    StageRow,
    candidate_id=NAMES,
    stage=st.sampled_from(Stage),
    code=st.sampled_from(ReasonCode),
    detail=WORDS,
    seconds=st.floats(0, 1e9),
    bytes=st.integers(0, 1 << 62),
    log=WORDS,
    rules=WORDS,
    source=WORDS,
)


def make_ledger(folder: Path, rows: int = 60) -> bytes:
    """Write a ledger of several pages and return its bytes."""
    with open_ledger(folder, create=True) as ledger:
        ledger.set_fact("options", "{}")
        for number in range(rows):
            stage = list(Stage)[number % len(Stage)]
            name = f"project-{number // 3:012x}"
            ledger.put([StageRow(candidate_id=name, stage=stage, code=ReasonCode.OK, rules=RULES, source="s" * 40)])
    assert [path.name for path in folder.iterdir()] == [LEDGER_FILE]
    return (folder / LEDGER_FILE).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_ledger(tmp_path_factory.mktemp("whole"))


def use(ledger: Ledger) -> None:
    """Do all that the program does with a ledger."""
    ledger.funnel()
    rows = [row for stage in Stage for row in ledger.rows_in(stage)]
    known_screens(rows, RULES)
    for row in rows[:3]:
        ledger.rows_of(row.candidate_id)
    ledger.fact("options")
    find_candidate(ledger, "project-000000000001")
    ledger.forget(ReasonCode.OK)
    ledger.put(rows[:1])
    ledger.set_fact("options", "{}")


def complaint_about(content: bytes) -> str | None:
    """Return the one line about a ledger's file, or None where it was usable; anything but a UserError passes."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / LEDGER_FILE).write_bytes(content)
        try:
            with open_ledger(Path(name), create=False) as ledger:
                use(ledger)
        except UserError as error:
            told = str(error)
        else:
            return None
    assert told
    assert "\n" not in told
    return told


def test_a_whole_ledger_is_used_without_a_word(whole: bytes) -> None:
    assert len(whole) > 3 * 4096
    assert complaint_about(whole) is None


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: b"SQLite format 3\0" + tail))
@settings(max_examples=50)
def test_any_bytes_are_refused_in_one_line(content: bytes) -> None:
    assert complaint_about(content) is not None


@given(st.integers(0, 10**6))
@settings(max_examples=60)
def test_a_ledger_cut_anywhere_is_refused_in_one_line(whole: bytes, kept: int) -> None:
    assert complaint_about(whole[: kept % len(whole)]) is not None


def test_a_ledger_cut_near_its_end_is_refused_in_one_line(whole: bytes) -> None:
    assert [cut for cut in range(1, 60) if complaint_about(whole[:-cut]) is None] == []


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=150)
def test_a_ledger_with_damaged_bytes_is_used_or_refused_in_one_line(
    whole: bytes, places: list[tuple[int, int]]
) -> None:
    # SQLite leaves the middle of pages empty: damage goes where something stands
    written = [place for place, byte in enumerate(whole) if byte]
    damaged = bytearray(whole)
    for place, byte in places:
        damaged[written[place % len(written)]] = byte
    complaint_about(bytes(damaged))


@pytest.mark.parametrize("table", [b"CREATE TABLE stages", b"CREATE TABLE facts", b"table", b"index"])
def test_a_damaged_name_of_a_table_is_one_line(whole: bytes, table: bytes) -> None:
    start = whole.index(table)
    for place in range(start, start + len(table)):
        assert complaint_about(whole[:place] + b"\x80" + whole[place + 1 :]) is not None


@pytest.mark.parametrize("written", [b"project-000000000007scanOK", b"scanproject-000000000007"])
def test_every_byte_of_a_row_may_be_damaged(whole: bytes, written: bytes) -> None:
    start = whole.index(written)
    for place, byte in itertools.product(range(start - 14, start + 60), (0x00, 0x7F, 0xFF)):
        complaint_about(whole[:place] + bytes([byte]) + whole[place + 1 :])


def test_a_first_page_that_shows_no_tables_is_not_taken_for_a_new_ledger(whole: bytes) -> None:
    cells = 100 + 3
    told = complaint_about(whole[:cells] + b"\0\0" + whole[cells + 2 :])
    assert told is not None
    assert "cannot be used" in told


@given(st.lists(ROWS, max_size=8, unique_by=lambda row: (row.candidate_id, row.stage)))
@settings(max_examples=50)
def test_rows_of_any_words_come_back(rows: list[StageRow]) -> None:
    def escaped(text: str) -> str:
        return text.encode("utf-8", "backslashreplace").decode()

    with tempfile.TemporaryDirectory() as name:
        with open_ledger(Path(name), create=True) as ledger:
            ledger.put(rows)
        with open_ledger(Path(name), create=False) as ledger:
            for row in rows:
                (found,) = [one for one in ledger.rows_of(row.candidate_id) if one.stage is row.stage]
                assert (found.detail, found.log, found.source) == (*map(escaped, (row.detail, row.log, row.source)),)
                assert (found.code, found.seconds, found.bytes) == (row.code, row.seconds, row.bytes)
            assert sum(line.count for line in ledger.funnel()) == len(rows)
            ledger.find("\udce4")


def damage(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / LEDGER_FILE)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


INSERT = "INSERT INTO stages (candidate_id, stage, code, rules, source) VALUES "


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (f"{INSERT} ('p-1', 'polish', 'OK', 'r', 's')", "unknown Stage 'polish'"),
        (f"{INSERT} ('p-1', 'scan', 'TOO_UGLY', 'r', 's')", "unknown ReasonCode 'TOO_UGLY'"),
        (f"{INSERT} ('nobody', 'scan', 'OK', 'r', 's')", "names no candidate"),
        ("UPDATE facts SET value = '99' WHERE name = 'schema_version'", "another release"),
        ("UPDATE facts SET value = 'a' || char(10) || 'b' WHERE name = 'schema_version'", "another release"),
        ("DELETE FROM facts", "database of something else"),
        ("ALTER TABLE stages ADD COLUMN more TEXT", "database of something else"),
        ("ALTER TABLE stages DROP COLUMN log", "database of something else"),
        ("DROP TABLE stages", "database of something else"),
        ("DROP TABLE facts", "database of something else"),
        (f"{INSERT} ('p-1', CAST(x'ff' AS TEXT), 'OK', 'r', 's')", "cannot be used"),
    ],
)
def test_rows_and_tables_of_others_are_one_line(tmp_path: Path, statement: str, said: str) -> None:
    make_ledger(tmp_path)
    damage(tmp_path, statement)
    told = complaint_about((tmp_path / LEDGER_FILE).read_bytes())
    assert told is not None
    assert said in told


@pytest.mark.parametrize(
    "column", ["seconds TEXT DEFAULT 'soon'", "bytes TEXT DEFAULT 'big'", "detail BLOB DEFAULT x'00'", "log REAL"]
)
def test_values_of_another_type_are_one_line(tmp_path: Path, column: str) -> None:
    make_ledger(tmp_path, rows=0)
    kinds = ["candidate_id", "stage", "code", "detail", "seconds", "bytes", "log", "rules", "source"]
    columns = ", ".join(column if column.startswith(f"{name} ") else f"{name} DEFAULT ''" for name in kinds)
    damage(tmp_path, "DROP TABLE stages", f"CREATE TABLE stages ({columns})", f"{INSERT} ('p-1', 'scan', 'OK', '', '')")
    told = complaint_about((tmp_path / LEDGER_FILE).read_bytes())
    assert told is not None
    assert "is damaged" in told


def foreign(folder: Path) -> None:
    damage(folder, "CREATE TABLE photos (name TEXT)", "INSERT INTO photos VALUES ('mine')")


def foreign_of_the_same_names(folder: Path) -> None:
    damage(folder, "CREATE TABLE stages (name TEXT)", "CREATE TABLE facts (what, when_)")


@pytest.mark.parametrize("make", [foreign, foreign_of_the_same_names])
@pytest.mark.parametrize("create", [False, True])
def test_a_foreign_database_is_refused_and_left_as_it_was(
    tmp_path: Path, make: Callable[[Path], None], *, create: bool
) -> None:
    make(tmp_path)
    before = (tmp_path / LEDGER_FILE).read_bytes()
    with pytest.raises(OutputFolderError, match="something else"), open_ledger(tmp_path, create=create):
        pass
    assert (tmp_path / LEDGER_FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [LEDGER_FILE]


def test_a_ledger_that_was_begun_and_never_filled_is_made_whole(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).touch()
    with open_ledger(tmp_path, create=False) as ledger:
        assert ledger.funnel() == ()
        assert ledger.fact("schema_version") == "1"
