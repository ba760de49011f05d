"""Rows of anybody's data set: SWE-bench's shape and its relatives, each kept whole and read as far as it is known.

An imported row is no task that could be run: its environment is somewhere else, and nobody here has seen its tests
fail and pass. Nothing of a row is ever executed: a parser's source or a build command in it is text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envfarm.errors import OutputFolderError, TaskError
from envfarm.formats.json_text import parse_json, render_json
from envfarm.formats.new_folder import new_folder, write_file
from envfarm.formats.row_shapes import Facts, read_facts

ROW_FILE = "row.json"
FACTS_FILE = "import.json"
_ID_FIELDS = ("instance_id", "id")
_NAME = re.compile(r"[A-Za-z0-9_][\w.+-]{0,199}", re.ASCII)
_PARQUET = b"PAR1"


@dataclass(frozen=True, kw_only=True)
class ForeignRow:
    """A row of anybody's data set, whole.

    Attributes:
        name: Its id, fit for a folder's name.
        row: All of its fields, as they came.
        facts: What is known about it, whichever fields and forms its data set uses.
        text: The row's own JSON, byte for byte; empty where it did not come as JSON.
    """

    name: str
    row: Mapping[str, Any] = field(repr=False)
    facts: Facts = field(repr=False)
    text: bytes = field(default=b"", repr=False, compare=False)

    @property
    def fail_to_pass(self) -> tuple[str, ...]:
        """Tests that have to go from failing to passing; empty where it names none."""
        return self.facts.fail_to_pass

    @property
    def pass_to_pass(self) -> tuple[str, ...]:
        """Tests that have to go on passing."""
        return self.facts.pass_to_pass


def read_rows(path: Path) -> Iterator[ForeignRow]:
    """Yield the rows of a file of JSON lines, one at a time, or of a file that holds one JSON list.

    Raises:
        TaskError: It cannot be read, or a row has no id; the message names file and line.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
            file.seek(0)
            if start.startswith(_PARQUET):
                message = f"{path}: it is a Parquet file: write it as JSON lines first, then import those"
                raise TaskError(message)
            if start.lstrip().startswith(b"["):
                rows = parse_json(file.read(), f"{path}")
                for number, row in enumerate(rows, start=1):
                    yield parse_row(row, f"{path}, row {number}")
                return
            for number, line in enumerate(file, start=1):
                if line.strip():
                    place = f"{path}:{number}"
                    yield parse_row(parse_json(line, place), place, text=line.strip())
    except OSError as error:
        message = f"{path}: it cannot be read ({error.strerror}): name a file of JSON lines"
        raise TaskError(message) from error


def parse_row(row: Any, place: str, *, text: bytes = b"") -> ForeignRow:
    """Return a row, whichever of the known shapes it has.

    Raises:
        TaskError: It is no object, or names no instance.
    """
    if not isinstance(row, dict):
        message = f"{place}: it is no JSON object"
        raise TaskError(message)
    name = _name(row).replace("/", "__")
    if not _NAME.fullmatch(name):
        message = f"{place}: it has no instance_id that could name a folder"
        raise TaskError(message)
    return ForeignRow(name=name, row=row, facts=read_facts(row), text=text)


def write_foreign(
    rows: Iterable[ForeignRow], folder: Path, *, files: Mapping[str, Mapping[str, bytes]] | None = None
) -> int:
    """Write each row to a folder of its own, every field as it came; they appear together. Return how many.

    Args:
        rows: What is written to NAME/row.json, and what is known about it to NAME/import.json.
        folder: A new or empty folder.
        files: More files by row's name, written to NAME/files/.

    Raises:
        OutputFolderError: The folder is not empty, two rows have one name, or it cannot be written.
    """
    count = 0
    with new_folder(folder) as partial:
        for row in rows:
            count += 1
            target = partial / row.name
            if target.exists():
                message = f"two rows are named {row.name}: import them to folders of their own"
                raise OutputFolderError(message)
            write_file(target / ROW_FILE, (row.text or render_json(row.row)) + b"\n")
            write_file(target / FACTS_FILE, render_json(row.facts.told()) + b"\n")
            for name, content in (files or {}).get(row.name, {}).items():
                write_file(target / "files" / name, content)
    return count


def read_imported(folder: Path) -> ForeignRow:
    """Return the row that an imported folder holds.

    Raises:
        TaskError: It holds none, or it is damaged.
    """
    for row in read_rows(folder / ROW_FILE):
        return row
    message = f"{folder / ROW_FILE}: it is empty: import the row again"
    raise TaskError(message)


def _name(row: Mapping[str, Any]) -> str:
    for key in _ID_FIELDS:
        if isinstance(row.get(key), str):
            return str(row[key])
    if isinstance(row.get("org"), str) and isinstance(row.get("repo"), str):
        return f"{row['org']}__{row['repo']}-{row.get('number', 0)}"
    if isinstance(row.get("repo_name"), str) and isinstance(row.get("commit_hash"), str):
        return f"{row['repo_name']}-{row['commit_hash'][:12]}"
    return ""
