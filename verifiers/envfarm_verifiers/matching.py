"""Which test of a run is which test of the task, where altered files give their tests other ids. PURE.

Ids follow values: a parameter set whose value was exchanged has another id. The n-th test that a definition collects is
the n-th that it collected when the task was published.
"""

from collections.abc import Iterable, Sequence

from envfarm.records.trust import ProtectedTest
from envfarm_verifiers.mixed_plan import prefix_of


def match_ids(tests: Iterable[ProtectedTest], collected: Sequence[str]) -> dict[str, str]:
    """Return the task's own id by the id that a run reported, for all tests of protected definitions.

    A definition that collected another number of tests than it has is left out: its tests count as missing.
    """
    by_prefix: dict[str, list[str]] = {}
    for name in collected:
        by_prefix.setdefault(prefix_of(name), []).append(name)
    found: dict[str, str] = {}
    for test in tests:
        for prefix in dict.fromkeys(prefix_of(name) for name in test.ids):
            real = [name for name in test.ids if prefix_of(name) == prefix]
            seen = by_prefix.get(prefix, [])
            if len(real) == len(seen):
                found |= dict(zip(seen, real, strict=True))
    return found
