"""Which processes the kernel ended for want of memory: because of a lease's own bound, or of the machine's shortage.

The first is an outcome of what ran. The second says nothing of it, and is never told as its end.

Not covered: version 1 tells only whether the bound was ever reached, which dropping caches may have mended, so that a
later kill for the machine may be taken for one of the lease's own. Without a group for memory, a child of a command
that the machine's shortage ended is not seen, only the command itself; and one that takes memory faster than the agent
looks can bring the shortage about, and is nobody's outcome then.
"""

import contextlib
from pathlib import Path

_MACHINE_COUNTS = Path("/proc/vmstat")
_HUGE_PAGE_BYTES = 2 << 20
"""A charge of one fails so far below the bound."""


class MemoryKills:
    """What the kernel has counted since this was made; `look` brings it up to date.

    Attributes:
        own: Kills that the group's own bound asked for.
        others: Kills that it did not ask for; without a group, all of this machine.
        is_exact: Whether all of them were of the group's own processes.
    """

    def __init__(self, group: Path | None) -> None:
        """Take the group that bounds memory; None where there is none."""
        self.own = self.others = 0
        self.is_exact = group is not None
        self._group = group
        self._is_unified = group is not None and (group / "memory.events").is_file()
        if group is None:
            self._file = _MACHINE_COUNTS
        else:
            self._file = group / ("memory.events" if self._is_unified else "memory.oom_control")
        self._kills, self._hits = self._read_kills(), _count(self._file, "oom")

    def look(self) -> tuple[int, int]:
        """Return `own` and `others` as they are now."""
        kills = self._read_kills()
        if kills > self._kills:
            if self._has_reached_bound():
                self.own += kills - self._kills
            else:
                self.others += kills - self._kills
            self._kills = kills
        return self.own, self.others

    def _read_kills(self) -> int:
        return _count(self._file, "oom_kill")

    def _has_reached_bound(self) -> bool:
        if self._group is None:
            return False
        if self._is_unified:
            before, self._hits = self._hits, _count(self._file, "oom")
            return self._hits > before
        kinds = [self._group / name for name in ("memory", "memory.memsw")]
        peaks = [
            (_count(Path(f"{kind}.max_usage_in_bytes"), ""), _count(Path(f"{kind}.limit_in_bytes"), ""))
            for kind in kinds
        ]
        return any(0 < bound <= peak + _HUGE_PAGE_BYTES for peak, bound in peaks)


def _count(file: Path, word: str) -> int:
    """Return the number behind a word at the beginning of a line; without a word, the one that the file holds."""
    with contextlib.suppress(OSError):
        for line in file.read_text().splitlines():
            name, _, number = line.rpartition(" ")
            if name == word:
                return int(number)
    return 0
