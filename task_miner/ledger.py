"""The ledger: one row per candidate and stage, in SQLite, so that a killed run loses at most the stage in flight.

Why a row per stage and not per candidate: `ledger explain` tells the whole way of a candidate, `ledger status` draws
the funnel with seconds per stage, and a resumed run knows which stage to go on with. A row is written once its stage
has ended and its results lie safely on disk; the file's journal is a write-ahead log, so a row is there or is not.

The ledger knows nothing of stages' work; it may not import git, sandboxes or languages. Its file may be cut, damaged,
of another release or of another program: all of that is one line that says so, and a file that is not ours is never
written to.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from envfarm.errors import OutputFolderError, UserError
from task_miner.reasons import ReasonCode, Stage

_WordT = TypeVar("_WordT", bound=StrEnum)

LEDGER_FILE = "envfarm-ledger.sqlite"
_SCHEMA_VERSION = "1"
_SCHEMA = f"""
BEGIN IMMEDIATE;
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
INSERT OR REPLACE INTO facts VALUES ('schema_version', '{_SCHEMA_VERSION}');
COMMIT;
"""  # noqa: S608 -- of a constant that stands above
_FACT_COLUMNS = ("name", "value")
_COLUMNS = ("candidate_id", "stage", "code", "detail", "seconds", "bytes", "log", "rules", "source")
_ROWS = f"SELECT {', '.join(_COLUMNS)} FROM stages"  # noqa: S608 -- of names that stand above


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
        values = [tuple(_plain(getattr(row, name)) for name in _COLUMNS) for row in rows]
        with self._writing():
            self._connection.executemany("INSERT OR REPLACE INTO stages VALUES (?,?,?,?,?,?,?,?,?)", values)

    def rows_of(self, candidate_id: str) -> tuple[StageRow, ...]:
        """Return the candidate's rows in the order of the stages; empty for one that is not known."""
        cursor = self._connection.execute(f"{_ROWS} WHERE candidate_id = ?", (_plain(candidate_id),))
        order = list(Stage)
        return tuple(sorted((_row(values) for values in cursor), key=lambda row: order.index(row.stage)))

    def rows_in(self, stage: Stage) -> Iterator[StageRow]:
        """Yield all rows of a stage, by candidate."""
        cursor = self._connection.execute(f"{_ROWS} WHERE stage = ? ORDER BY candidate_id", (stage,))
        yield from (_row(values) for values in cursor)

    def find(self, prefix: str) -> tuple[str, ...]:
        """Return the candidates whose id, or the commit in it, starts with `prefix`; at most 20."""
        prefix = _plain(prefix)
        cursor = self._connection.execute(
            "SELECT DISTINCT candidate_id FROM stages WHERE candidate_id >= ?1 AND substr(candidate_id, 1, length(?1)) "
            "= ?1 OR candidate_id LIKE ?2 ESCAPE '\\' LIMIT 20",
            (prefix, "%-" + prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"),
        )
        return tuple(str(name) for (name,) in cursor)

    def funnel(self) -> tuple[FunnelLine, ...]:
        """Return how many rows each stage and code has, and their seconds, in the order of the stages."""
        cursor = self._connection.execute("SELECT stage, code, count(*), sum(seconds) FROM stages GROUP BY stage, code")
        order = list(Stage)
        lines = (
            FunnelLine(
                stage=_known(Stage, stage), code=_known(ReasonCode, code), count=count, seconds=float(seconds or 0)
            )
            for stage, code, count, seconds in cursor
        )
        return tuple(sorted(lines, key=lambda line: (order.index(line.stage), line.code != "OK", line.code)))

    def forget(self, code: ReasonCode) -> tuple[str, ...]:
        """Remove the rows with the code and return their candidates, so that the next run takes them again."""
        cursor = self._connection.execute("SELECT DISTINCT candidate_id FROM stages WHERE code = ?", (code,))
        names = tuple(str(name) for (name,) in cursor)
        with self._writing():
            self._connection.execute("DELETE FROM stages WHERE code = ?", (code,))
        return names

    def fact(self, name: str) -> str | None:
        """Return a fact about the whole folder, such as how it was mined."""
        found = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def set_fact(self, name: str, value: str) -> None:
        """Remember a fact about the whole folder."""
        with self._writing():
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, _plain(value)))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._connection:
                yield
        except sqlite3.OperationalError as error:
            message = f"the ledger cannot be written ({error}): free disk space or make its folder writable, then go on"
            raise OutputFolderError(message) from error


def _row(values: tuple[Any, ...]) -> StageRow:
    """Return the row that the values are; a damaged file may hold any.

    Raises:
        OutputFolderError: They are none of ours.
    """
    told = dict(zip(_COLUMNS, values, strict=True))
    told |= {"stage": _known(Stage, told["stage"]), "code": _known(ReasonCode, told["code"])}
    try:
        row = msgspec.convert(told, StageRow, strict=True)
    except msgspec.ValidationError as error:
        message = f"a row of this ledger is damaged ({error}): move {LEDGER_FILE} away to begin anew; tasks stay"
        raise OutputFolderError(message) from error
    if "-" not in row.candidate_id:
        message = f"a row of this ledger names no candidate ({row.candidate_id!r}): move {LEDGER_FILE} away"
        raise OutputFolderError(message)
    return row


def _known(kind: type[_WordT], word: Any) -> _WordT:
    try:
        return kind(word)
    except ValueError as error:
        told = f"{kind.__name__} {str(word)[:40]!r}"
        message = f"this ledger holds the unknown {told}: use the release that wrote it, or a new --out"
        raise OutputFolderError(message) from error


def _plain(value: Any) -> Any:
    """Return a value that SQLite takes: half a character in a text (of a path that is no UTF-8) as its escape."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


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
    connection = _connect(path)
    try:
        yield Ledger(connection)
    except sqlite3.Error as error:
        raise _unusable(path, error) from error
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    """Return a connection to a ledger that is whole, ours and of this release; a new one is made where none is."""
    has_log = path.with_name(f"{path.name}-wal").exists()
    try:
        with ExitStack() as stack:
            connection = sqlite3.connect(path, timeout=30.0)
            stack.callback(connection.close)
            is_new = _is_empty(connection)
            if not is_new:
                _check_whole(connection, path, has_log=has_log)
                _check_ours(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            if is_new:
                connection.executescript(_SCHEMA)
            stack.pop_all()
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter: a damaged name in SQLite's own message
        raise _unusable(path, error) from error
    return connection


def _unusable(path: Path, error: Exception) -> OutputFolderError:
    told = " ".join(str(error).split())
    return OutputFolderError(
        f"{path}: this ledger cannot be used ({told}): move it away to begin anew; published tasks stay"
    )


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Say whether nothing was ever written to it: a damaged first page may show no tables either."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    return pages <= 1 and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _check_whole(connection: sqlite3.Connection, path: Path, *, has_log: bool) -> None:
    """Refuse a damaged file: where a query would stumble, and where it is cut, which no query would see.

    Args:
        connection: It, opened.
        path: Where it lies.
        has_log: A log lay beside it before it was opened: a killed writer's, which makes the file whole again.
    """
    (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    if said == "ok" and not has_log and path.stat().st_size % page_bytes:
        said = "it is cut short"
    if said != "ok":
        raise sqlite3.DatabaseError(said)


def _check_ours(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse another program's database and another release's ledger, before it is written to."""
    message = f"{path}: this is no ledger but a database of something else: name the --out folder of an `envfarm mine`"
    if _columns(connection, "facts") != _FACT_COLUMNS:
        raise OutputFolderError(message)
    version = Ledger(connection).fact("schema_version")
    if version is not None and version != _SCHEMA_VERSION:
        other = f"{path}: written by another release of envfarm (ledger version {version}): use that, or a new --out"
        raise OutputFolderError(" ".join(other.split()))
    if version is None or _columns(connection, "stages") != _COLUMNS:
        raise OutputFolderError(message)


def _columns(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    return tuple(name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,)))


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
