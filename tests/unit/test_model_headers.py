"""Headers of weight files that try to bring the reader down: told, never a traceback."""

import pytest

from envfarm.errors import CheckpointError
from envfarm.model.tensor_header import parse_header


@pytest.mark.parametrize("start", [b"[", b'{"a":', b'{"w": {"shape": ['])
def test_nesting_of_any_depth_is_refused(start: bytes) -> None:
    header = start * 100_000
    with pytest.raises(CheckpointError, match=r"^f: its header is not JSON"):
        parse_header("f", header, 8 + len(header))


def test_a_size_that_no_file_has_is_refused() -> None:
    """Its end has more digits than Python turns into text."""
    size = b"9" * 4_300
    header = b'{"w": {"dtype": "F8_E4M3", "shape": [' + size + b'], "data_offsets": [0, ' + size + b"]}}"
    with pytest.raises(CheckpointError, match=r"^f: the entry of w is malformed"):
        parse_header("f", header, 8 + len(header))
