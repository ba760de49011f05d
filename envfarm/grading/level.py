"""How much a grading does against code that fights it, for people who pay by the second. PURE."""

from dataclasses import dataclass, replace

from envfarm.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class GradingLevel:
    """What a verifier is asked to do; one that has no use for a part leaves it out.

    Attributes:
        name: fast, standard or strict; stands in every verdict's provenance.
        watches: Whether the run is watched from inside (audit hook, snapshots) and from outside.
        hides: Whether expected values are kept outside, and tests that must fail are mixed in.
        mixed_runs: Runs of the deciding tests in which each is real or altered by its own coin; 0 for none.
        sequential: Whether these runs go one after the other, in random order, instead of side by side.
    """

    name: str
    watches: bool = True
    hides: bool = True
    mixed_runs: int = 4
    sequential: bool = False


FAST = GradingLevel(name="fast", hides=False, mixed_runs=0)
STANDARD = GradingLevel(name="standard")
STRICT = GradingLevel(name="strict", mixed_runs=8, sequential=True)
LEVELS = {level.name: level for level in (FAST, STANDARD, STRICT)}


def choose_level(name: str, mixed_runs: int | None = None) -> GradingLevel:
    """Return a level by name, with another number of mixed runs where one is given.

    Raises:
        SettingsError: There is no such level, or the number is negative.
    """
    if name not in LEVELS:
        message = f"unknown grading level {name!r}: known are {', '.join(LEVELS)}"
        raise SettingsError(message)
    if mixed_runs is None:
        return LEVELS[name]
    if mixed_runs < 0:
        message = f"grading.mixed_runs is {mixed_runs}: it is 0 or more"
        raise SettingsError(message)
    return replace(LEVELS[name], mixed_runs=mixed_runs)
