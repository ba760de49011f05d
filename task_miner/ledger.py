"""The ledger: one row per candidate and stage, in SQLite, so that a killed run loses at most the stage in flight.

Why a row per stage and not per candidate: `ledger explain` tells the whole way of a candidate, `ledger status` draws
the funnel with seconds per stage, and a resumed run knows which stage to go on with. A row is written once its stage
has ended and its results lie safely on disk; the file's journal is a write-ahead log, so a row is there or is not.

The ledger knows nothing of stages' work; it may not import git, sandboxes or languages.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from envfarm.errors import OutputFolderError, UserError
from task_miner.reasons import ReasonCode, Stage

LEDGER_FILE = "envfarm-ledger.sqlite"
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS stages (
    candidate_id TEXT NOT NULL,
    stage        TEXT NOT NULL,
    code         TEXT NOT NULL,
    detail       TEXT NOT NULL DEFAULT '',
    seconds      REAL NOT NULL DEFAULT 0,
    bytes        INTEGER NOT NULL DEFAULT 0,
    log          TEXT NOT NULL DEFAULT '',
    rules        TEXT NOT NULL,
    source       TEXT NOT NULL,
    PRIMARY KEY (candidate_id, stage)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS stages_by_code ON stages (code, stage);
"""


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """What became of one candidate in one stage.

    Attributes:
        candidate_id: The candidate; for units that are none, ``PROJECT-`` and 12 hex digits of the commit as well.
        stage: The stage.
        code: `ReasonCode.OK`, or why it fell.
        detail: One line for people.
        seconds: Wall-clock time of the stage.
        bytes: Bytes that the stage left on disk.
        log: Path of the log, relative to the output folder; empty where there is none.
        rules: Version of the rules that judged; a row of other rules is not believed.
        source: Key of the repository.
    """

    candidate_id: str
    stage: Stage
    code: ReasonCode
    detail: str = ""
    seconds: float = 0.0
    bytes: int = 0
    log: str = ""
    rules: str
    source: str


@dataclass(frozen=True, kw_only=True)
class FunnelLine:
    """One line of the funnel: how many rows of a stage ended with a code, and their seconds."""

    stage: Stage
    code: ReasonCode
    count: int
    seconds: float


class Ledger:
    """An open ledger. Used from one thread; a second process may read it at the same time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Take an open connection; `open_ledger` makes one."""
        self._connection = connection

    def put(self, rows: Iterable[StageRow]) -> None:
        """Write rows in one transaction; a row of the same candidate and stage is replaced."""
        values = [
            (r.candidate_id, r.stage, r.code, r.detail, r.seconds, r.bytes, r.log, r.rules, r.source) for r in rows
        ]
        with self._writing():
            self._connection.executemany("INSERT OR REPLACE INTO stages VALUES (?,?,?,?,?,?,?,?,?)", values)

    def rows_of(self, candidate_id: str) -> tuple[StageRow, ...]:
        """Return the candidate's rows in the order of the stages; empty for one that is not known."""
        cursor = self._connection.execute("SELECT * FROM stages WHERE candidate_id = ?", (candidate_id,))
        order = list(Stage)
        return tuple(sorted((_row(values) for values in cursor), key=lambda row: order.index(row.stage)))

    def rows_in(self, stage: Stage) -> Iterator[StageRow]:
        """Yield all rows of a stage, by candidate."""
        cursor = self._connection.execute("SELECT * FROM stages WHERE stage = ? ORDER BY candidate_id", (stage,))
        yield from (_row(values) for values in cursor)

    def find(self, prefix: str) -> tuple[str, ...]:
        """Return the candidates whose id, or the commit in it, starts with `prefix`; at most 20."""
        cursor = self._connection.execute(
            "SELECT DISTINCT candidate_id FROM stages WHERE candidate_id >= ?1 AND substr(candidate_id, 1, length(?1)) "
            "= ?1 OR candidate_id LIKE ?2 ESCAPE '\\' LIMIT 20",
            (prefix, "%-" + prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"),
        )
        return tuple(name for (name,) in cursor)

    def funnel(self) -> tuple[FunnelLine, ...]:
        """Return how many rows each stage and code has, and their seconds, in the order of the stages."""
        cursor = self._connection.execute("SELECT stage, code, count(*), sum(seconds) FROM stages GROUP BY stage, code")
        order = list(Stage)
        lines = (
            FunnelLine(stage=Stage(stage), code=ReasonCode(code), count=count, seconds=seconds)
            for stage, code, count, seconds in cursor
        )
        return tuple(sorted(lines, key=lambda line: (order.index(line.stage), line.code != "OK", line.code)))

    def forget(self, code: ReasonCode) -> tuple[str, ...]:
        """Remove the rows with the code and return their candidates, so that the next run takes them again."""
        with self._writing():
            cursor = self._connection.execute("SELECT DISTINCT candidate_id FROM stages WHERE code = ?", (code,))
            names = tuple(name for (name,) in cursor)
            self._connection.execute("DELETE FROM stages WHERE code = ?", (code,))
        return names

    def fact(self, name: str) -> str | None:
        """Return a fact about the whole folder, such as how it was mined."""
        found = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def set_fact(self, name: str, value: str) -> None:
        """Remember a fact about the whole folder."""
        with self._writing():
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._connection:
                yield
        except sqlite3.OperationalError as error:
            message = f"the ledger cannot be written ({error}): free disk space or make its folder writable, then go on"
            raise OutputFolderError(message) from error


def _row(values: tuple[str, str, str, str, float, int, str, str, str]) -> StageRow:
    name, stage, code, detail, seconds, size, log, rules, source = values
    return StageRow(
        candidate_id=name,
        stage=Stage(stage),
        code=ReasonCode(code),
        detail=detail,
        seconds=seconds,
        bytes=size,
        log=log,
        rules=rules,
        source=source,
    )


@contextmanager
def open_ledger(folder: Path, *, create: bool) -> Iterator[Ledger]:
    """Open the ledger of an output folder, and close it at the end of the block.

    Raises:
        OutputFolderError: There is none and `create` is false, or it is damaged, or of another release.
    """
    path = folder / LEDGER_FILE
    if not create and not path.is_file():
        message = f"{folder} holds no ledger: name the --out folder of an `envfarm mine`"
        raise OutputFolderError(message)
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, timeout=30.0)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        ledger = Ledger(connection)
        _check_version(ledger, path)
        yield ledger
    except sqlite3.DatabaseError as error:
        message = f"{path}: this ledger cannot be used ({error}): move it away to begin anew; published tasks stay"
        raise OutputFolderError(message) from error
    finally:
        if connection is not None:
            connection.close()


def _check_version(ledger: Ledger, path: Path) -> None:
    version = ledger.fact("schema_version")
    if version is None:
        ledger.set_fact("schema_version", str(_SCHEMA_VERSION))
    elif version != str(_SCHEMA_VERSION):
        message = f"{path}: written by another release of envfarm (ledger version {version}): use that, or a new --out"
        raise OutputFolderError(message)


def find_candidate(ledger: Ledger, name: str) -> str:
    """Return the one candidate that `name` means: an id, its beginning, or the beginning of its commit.

    Raises:
        UserError: None or several match.
    """
    found = ledger.find(name)
    if name in found:
        return name
    if not found:
        message = f"no candidate {name!r} in this ledger: `envfarm ledger status DIR --list` names them"
        raise UserError(message)
    if len(found) > 1:
        message = f"{name!r} could be any of {', '.join(found)}: give more of it"
        raise UserError(message)
    return found[0]
