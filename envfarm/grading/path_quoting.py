"""Paths as git writes them in a diff: bare, or between quotes with C's escapes. PURE.

Paths are text with undecodable bytes as surrogates, so that ``quote(read_quoted(...))`` keeps every byte.
"""

import re

_ESCAPES = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}
_NAMES = {number: letter for letter, number in _ESCAPES.items()}
_FIRST_PRINTABLE, _DELETE = 0x20, 0x7F
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2}|.)", re.DOTALL)


def to_text(data: bytes) -> str:
    """Return the bytes of a path as text."""
    return data.decode("utf-8", "surrogateescape")


def to_bytes(path: str) -> bytes:
    """Return the text of a path as bytes."""
    return path.encode("utf-8", "surrogateescape")


def read_quoted(data: bytes) -> tuple[str, bytes] | None:
    """Return the quoted path that `data` starts with, and what follows it; None where there is none."""
    match = _QUOTED.match(data)
    if match is None:
        return None
    known = all(len(escape) > 1 or escape.decode("latin-1") in _ESCAPES for escape in _ESCAPE.findall(match.group(1)))
    if not known:
        return None
    return to_text(_ESCAPE.sub(_unescape, match.group(1))), data[match.end() :]


def quote(path: str, *, always: bool = False) -> bytes:
    """Return the path as git writes it with ``core.quotePath`` off: between quotes where it has to be, or always."""
    data = to_bytes(path)
    plain = all(byte >= _FIRST_PRINTABLE and byte != _DELETE and byte not in {34, 92} for byte in data)
    if plain and not always:
        return data
    return b'"' + b"".join(_escape(byte) for byte in data) + b'"'


def _unescape(match: re.Match[bytes]) -> bytes:
    word = match.group(1)
    return bytes([int(word, 8)]) if len(word) > 1 else bytes([_ESCAPES[word.decode("latin-1")]])


def _escape(byte: int) -> bytes:
    if byte in _NAMES:
        return b"\\" + _NAMES[byte].encode()
    if byte < _FIRST_PRINTABLE or byte >= _DELETE:
        return b"\\%03o" % byte
    return bytes([byte])
