"""How a record becomes one JSON line and comes back; the only place that knows about versions.

Every top-level record carries ``"schema": "envfarm.NAME/VERSION"`` as its first field. A line of an unknown
name or version is refused by name: nothing is guessed, nothing is dropped.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from envfarm.errors import RecordError

RecordT = TypeVar("RecordT", bound="Record")


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A piece of a record: frozen, strict, without a version of its own."""


class Record(Part, frozen=True, kw_only=True, tag_field="schema", tag="envfarm.record/0"):
    """A top-level record. A subclass names its schema: ``class Task(Record, tag="envfarm.task/1")``."""

    @classmethod
    def schema(cls) -> str:
        """Return the schema of this record, such as ``envfarm.task/1``."""
        return str(cls.__struct_config__.tag)


class _Envelope(msgspec.Struct):
    schema: str = ""


def encode_line(record: Record) -> bytes:
    """Return the record as one JSON line, newline included; equal records give equal bytes.

    Unordered collections (dict keys, sets) are sorted, so that a digest of the line is a digest of the value.
    """
    return msgspec.json.encode(record, order="deterministic") + b"\n"


def decode_line(line: bytes | str, record_type: type[RecordT]) -> RecordT:
    """Return the record that the line holds.

    Raises:
        RecordError: The line is no JSON object, is of another schema or version, or breaks the schema.
    """
    try:
        envelope = msgspec.json.decode(line, type=_Envelope)
    except msgspec.MsgspecError as error:
        message = f"this is not a JSON line of {record_type.schema()}: {error}"
        raise RecordError(message) from error
    except UnicodeDecodeError as error:
        message = f"this is not a JSON line of {record_type.schema()}: not UTF-8"
        raise RecordError(message) from error
    if envelope.schema != record_type.schema():
        message = (
            f"expected a record of {record_type.schema()}, found {envelope.schema or 'no schema'!r}: "
            "it was written by another release of envfarm, or is another kind of record"
        )
        raise RecordError(message)
    try:
        return msgspec.json.decode(line, type=record_type)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"malformed record of {record_type.schema()}: {error}"
        raise RecordError(message) from error


def encode_lines(records: Iterable[Record]) -> bytes:
    """Return all records as JSON lines, in order."""
    return b"".join(encode_line(record) for record in records)


def decode_lines(data: bytes, record_type: type[RecordT]) -> Iterator[RecordT]:
    """Yield the records of a JSON-lines document, skipping blank lines.

    Raises:
        RecordError: A line is malformed; the message starts with its line number.
    """
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield decode_line(line, record_type)
        except RecordError as error:
            message = f"line {number}: {error}"
            raise RecordError(message) from error
