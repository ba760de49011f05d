"""The whole collection, in the order of the families; and the table of it that the documentation shows. PURE."""

from collections.abc import Iterable

from envfarm.audit.by_files import FILE_CHEATS, OUTCOME_CHEATS, TEST_FILE_CHEATS
from envfarm.audit.by_patch import PATCH_CHEATS
from envfarm.audit.cheat import Cheat, Family
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
from envfarm.audit.variant_collection import VARIANTS
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


HONEST: tuple[Cheat, ...] = tuple(
    Cheat(name=variant.name, family=Family.HONEST, what=variant.what, make=variant.make, harmless=True)
    for variant in VARIANTS
)
"""Honest variants of the true fix, handed in like cheats: each has to score 1 where the tests allow it at all."""


def choose_honest(names: Iterable[str]) -> tuple[Cheat, ...]:
    """Return the honest variants of these names; all of them for none.

    Raises:
        UserError: There is no variant of a name.
    """
    return _choose(HONEST, names, "honest variant")


def choose_cheats(names: Iterable[str]) -> tuple[Cheat, ...]:
    """Return the cheats of these names, in the collection's order; all of them for none.

    Raises:
        UserError: There is no cheat of a name.
    """
    return _choose(CHEATS, names, "cheat")


def _choose(known: tuple[Cheat, ...], names: Iterable[str], what: str) -> tuple[Cheat, ...]:
    wanted = frozenset(names)
    unknown = wanted - {cheat.name for cheat in known}
    if unknown:
        message = f"there is no {what} {min(unknown)!r}: docs/audit.md and `envfarm audit --list` name them all"
        raise UserError(message)
    return tuple(cheat for cheat in known if not wanted or cheat.name in wanted)


def cheat_table() -> str:
    """Return the collection, and the honest variants, as tables in Markdown."""
    lines = ["| cheat | family | needs | what it does | deceives plain pytest |", "|---|---|---|---|---|"]
    for cheat in CHEATS:
        needs = "nothing" if cheat.blanket else "the tests' names or text"
        deceives = f"no: {cheat.plain_refuses}" if cheat.plain_refuses else "yes"
        lines.append(f"| `{cheat.name}` | {cheat.family} | {needs} | {cheat.what} | {deceives} |")
    lines += ["", "| honest variant | what is written differently |", "|---|---|"]
    lines += [f"| `{cheat.name}` | {cheat.what} |" for cheat in HONEST]
    return "\n".join(lines) + "\n"
