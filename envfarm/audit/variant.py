"""What an honest variant of a true fix is. PURE.

A grader that looks for cheats must not punish what a careful programmer could have written in place of the true fix. A
variant is that fix, written in another way; its maker takes the facts of a task and returns a diff, as a cheat's does.
"""

from dataclasses import dataclass, field

from envfarm.audit.cheat import Maker


@dataclass(frozen=True)
class Variant:
    """One other way to write a true fix.

    Attributes:
        name: Words joined by underscores.
        what: What is written differently, in one line.
        make: Returns the diff for a task, the true fix within it; None where nothing would be written differently.
    """

    name: str
    what: str
    make: Maker = field(repr=False)
