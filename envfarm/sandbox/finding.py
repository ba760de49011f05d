"""A finding of `envfarm doctor`: one thing that works on this machine, or does not, and what mends it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the doctor's table.

    Attributes:
        name: What was looked at.
        works: Whether it does.
        detail: What was seen.
        mend: The command that mends it; empty where nothing has to be.
        needed: Whether mining and grading need it.
    """

    name: str
    works: bool
    detail: str
    mend: str = ""
    needed: bool = False
