"""Finds twins in data files for the deciding tests that have none in a source file, by running them."""

from collections.abc import Sequence
from functools import partial

import msgspec

from envfarm.records.test_report import TestOutcome
from envfarm.records.trust import ProtectedTest, Twin
from envfarm_verifiers.mixed_plan import MixedRun
from envfarm_verifiers.test_files import apply_edits
from task_miner.quality.calibration_bench import CalibrationBench
from task_miner.quality.data_twins import MOST_TRIED, data_files, failing_tests, group_tests, propose_alterations
from task_miner.quality.twin_choice import fails_everywhere
from task_miner.together import run_together


async def calibrate_data(
    bench: CalibrationBench, tests: Sequence[ProtectedTest], uncovered: tuple[str, ...]
) -> tuple[ProtectedTest, ...]:
    """Return what protects tests that are made of data files; they have still to be confirmed.

    Args:
        bench: Runs tests.
        tests: Definitions that are protected otherwise: small runs hold them as well, so no alteration may touch them.
        uncovered: Deciding tests that no definition protects.

    Raises:
        BoundaryError: A box could not be had.
    """
    request = bench.request
    proposed = [
        propose_alterations(path, request.base_tests.get(path), bench.reference[path])
        for path in data_files(bench.reference, request.base_tests)
    ]
    turns = range(max((len(edits) for edits in proposed), default=0))
    tried = [edits[turn] for turn in turns for edits in proposed if turn < len(edits)][:MOST_TRIED]
    if not uncovered or not tried:
        return ()
    command = bench.small([*tests, ProtectedTest(path="", name="", ids=uncovered, fail_to_pass=uncovered)])
    works = [partial(bench.report, bench.fix, command, apply_edits(bench.reference, [edit])) for edit in tried]
    plain, *altered = await run_together([partial(bench.report, bench.fix, command, {}), *works])
    wanted = frozenset(name for name in uncovered if plain.outcomes.get(name) is TestOutcome.PASSED)
    twins = [
        twin
        for edit, report in zip(tried, altered, strict=True)
        if (twin := failing_tests(edit, wanted, plain, report)) is not None
    ]
    found = group_tests(twins, plain.collected)
    return tuple([await _seen_on_base(bench, test) for test in found])


async def _seen_on_base(bench: CalibrationBench, test: ProtectedTest) -> ProtectedTest:
    """Return the test with those of its twins strong that fail on the base as well."""
    command = bench.small([test])
    kept: list[Twin] = []
    for number, twin in enumerate(test.twins):
        files = MixedRun(twins={0: number}).files([test], bench.reference)
        report = await bench.partial_report(bench.base, command, files)
        strong = fails_everywhere(test, tuple(twin.failures), report)
        kept.append(msgspec.structs.replace(twin, strong=strong))
    return msgspec.structs.replace(test, twins=tuple(kept))
