"""The whole collection, in the order of the families; and the table of it that the documentation shows. PURE."""

from collections.abc import Iterable

from envfarm.audit.by_files import FILE_CHEATS, OUTCOME_CHEATS, TEST_FILE_CHEATS
from envfarm.audit.by_patch import PATCH_CHEATS
from envfarm.audit.cheat import Cheat
from envfarm.audit.in_process import (
    AIMED_CHEATS,
    ENVIRONMENT_CHEATS,
    EQUALITY_CHEATS,
    PROCESS_CHEATS,
    REPORT_CHEATS,
    RESOURCE_CHEATS,
    RUNNER_CHEATS,
    TEST_CHEATS,
)
from envfarm.errors import UserError

CHEATS: tuple[Cheat, ...] = (
    *OUTCOME_CHEATS,
    *RUNNER_CHEATS,
    *REPORT_CHEATS,
    *PROCESS_CHEATS,
    *TEST_FILE_CHEATS,
    *TEST_CHEATS,
    *FILE_CHEATS,
    *ENVIRONMENT_CHEATS,
    *EQUALITY_CHEATS,
    *AIMED_CHEATS,
    *RESOURCE_CHEATS,
    *PATCH_CHEATS,
)


def choose_cheats(names: Iterable[str]) -> tuple[Cheat, ...]:
    """Return the cheats of these names, in the collection's order; all of them for none.

    Raises:
        UserError: There is no cheat of a name.
    """
    wanted = frozenset(names)
    unknown = wanted - {cheat.name for cheat in CHEATS}
    if unknown:
        message = f"there is no cheat {min(unknown)!r}: docs/audit.md and `envfarm audit --list` name them all"
        raise UserError(message)
    return tuple(cheat for cheat in CHEATS if not wanted or cheat.name in wanted)


def cheat_table() -> str:
    """Return the collection as a table in Markdown."""
    lines = ["| cheat | family | needs | what it does | deceives plain pytest |", "|---|---|---|---|---|"]
    for cheat in CHEATS:
        needs = "nothing" if cheat.blanket else "the tests' names or text"
        deceives = f"no: {cheat.plain_refuses}" if cheat.plain_refuses else "yes"
        lines.append(f"| `{cheat.name}` | {cheat.family} | {needs} | {cheat.what} | {deceives} |")
    return "\n".join(lines) + "\n"
