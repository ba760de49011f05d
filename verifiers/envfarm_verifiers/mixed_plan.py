"""Which test is real and which is altered in each of the small runs. PURE: a plan and coins in, files out.

Never two versions of a test in one box; never the same version of a test in all runs. The plan stays outside: a box
gets finished files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envfarm.records.trust import ProtectedTest
from envfarm_verifiers.coins import Draw
from envfarm_verifiers.test_files import apply_edits


@dataclass(frozen=True, kw_only=True)
class MixedRun:
    """One small run.

    Attributes:
        twins: By number of the protected test: which of its twins stands in its place; real tests are absent.
    """

    twins: Mapping[int, int]

    def files(self, tests: Sequence[ProtectedTest], reference: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the contents of the test files that this run changes."""
        chosen = [tests[number].twins[twin] for number, twin in self.twins.items()]
        return apply_edits(reference, (edit for twin in chosen for edit in twin.edits))


def plan_mixed_runs(tests: Sequence[ProtectedTest], runs: int, draw: Draw) -> tuple[MixedRun, ...]:
    """Return the plans of all small runs; none where there is nothing to mix.

    Each test with twins has a coin per run; coins that would give the same version in every run are tossed again.
    """
    mixable = [number for number, test in enumerate(tests) if test.twins and test.fail_to_pass and test.runs_alone]
    if runs < 1 or not mixable:
        return ()
    chosen: list[dict[int, int]] = [{} for _ in range(runs)]
    for number in mixable:
        for run, altered in enumerate(_coins(runs, draw)):
            if altered:
                chosen[run][number] = draw(len(tests[number].twins))
    return tuple(MixedRun(twins=twins) for twins in chosen)


def _coins(runs: int, draw: Draw) -> list[bool]:
    while True:
        coins = [bool(draw(2)) for _ in range(runs)]
        if runs == 1 or len(set(coins)) > 1:
            return coins


def definitions_of(tests: Sequence[ProtectedTest]) -> tuple[str, ...]:
    """Return what to run of a suite so that all deciding tests run: ids without their parameters."""
    return tuple(dict.fromkeys(prefix_of(name) for test in tests if test.runs_alone for name in test.fail_to_pass))


def prefix_of(node_id: str) -> str:
    """Return a node id without the parameters at its end, as `definition_of` of the reporting plug-in does in a box."""
    path, mark, rest = node_id.partition("::")
    return path + mark + rest.partition("[")[0]
