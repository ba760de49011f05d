"""JSON text that comes back as it was, even where strings hold bytes that are no UTF-8. PURE."""

import json
from typing import Any

from envfarm.errors import TaskError


def render_json(value: Any) -> bytes:
    """Return the value as JSON in UTF-8 on one line.

    Bytes that are no UTF-8 stand in strings as lone surrogates (Python's ``surrogateescape``). They have no UTF-8 of
    their own, so a value that has any is written in ASCII with escapes, and `parse_json` gives them back.
    """
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def parse_json(content: bytes, place: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        TaskError: It is no JSON in UTF-8; the message starts with `place`.
    """
    try:
        return json.loads(content.decode())
    except UnicodeDecodeError as error:
        message = f"{place}: it is not UTF-8 (byte {error.start})"
        raise TaskError(message) from error
    except (ValueError, RecursionError) as error:
        message = f"{place}: it is no JSON ({error})"
        raise TaskError(message) from error
