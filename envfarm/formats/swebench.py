"""SWE-bench: the public names. Rows and task repositories (5.x) of our tasks, rows of anybody's, predictions."""

from envfarm.formats.foreign_rows import ForeignRow, parse_row, read_rows, write_foreign
from envfarm.formats.predictions import read_predictions, write_predictions
from envfarm.formats.swebench_repository import read_repository, write_repository
from envfarm.formats.swebench_rows import to_row, write_rows

__all__ = [
    "ForeignRow",
    "parse_row",
    "read_predictions",
    "read_repository",
    "read_rows",
    "to_row",
    "write_foreign",
    "write_predictions",
    "write_repository",
    "write_rows",
]
