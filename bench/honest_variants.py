"""Honest variants of true fixes, graded: what a careful programmer could have written has to score 1 as well.

    bench/honest_variants.py mined/*/tasks --out variants.jsonl --seconds 3600
    bench/honest_variants.py mined/*/tasks --out variants.jsonl --table

A variant that is refused is handed to the field's usual way of grading too (`envfarm.audit.plain`): where that refuses
it as well, the rewriting has broken something that the tests notice, and it counts as no variant of the fix.
"""

import argparse
from collections.abc import Mapping, Sequence

import anyio
from measuring.grading_rows import Bench, Case, Handed, OpenTask, Row, add_arguments, make_bench

from envfarm.audit.plain import PlainVerifier
from envfarm.audit.variant import Variant
from envfarm.audit.variant_collection import VARIANTS
from envfarm.records.verdict import Outcome

BY_NAME: Mapping[str, Variant] = {variant.name: variant for variant in VARIANTS}
OURS, PLAIN = "variant", "variant_plain"
LEAST_VARIANTS = 6


def make(task: OpenTask, case: Case) -> Handed | None:
    """Return a variant of the task's fix."""
    patch = BY_NAME[case.name].make(task.target)
    if patch is None:
        return None
    verifier = PlainVerifier(task.target.hidden_tests) if case.kind == PLAIN else None
    return Handed(patch=patch, verifier=verifier)


async def run(bench: Bench, names: Sequence[str]) -> None:
    """Grade every variant of every fix, then those that were refused in the usual way."""
    tasks = [package.task.task_id for package in bench.packages]
    await bench.run([Case(task_id=task, kind=OURS, name=name) for task in tasks for name in names], make)
    refused = [row for row in bench.rows() if row.kind == OURS and row.reward == 0]
    again = [Case(task_id=row.task, kind=PLAIN, name=row.name) for row in refused]
    await bench.run(again, make)


def table(rows: Sequence[Row]) -> str:
    """Return how many variants were refused that the usual way pays for, by variant and by library."""
    ours = [row for row in rows if row.kind == OURS and row.outcome == Outcome.SCORED]
    plain = {(row.task, row.name): row.reward for row in rows if row.kind == PLAIN and row.outcome == Outcome.SCORED}
    broken = [row for row in ours if not row.reward and plain.get((row.task, row.name)) == 0]
    alarms = [row for row in ours if not row.reward and plain.get((row.task, row.name)) != 0]
    lines = ["### Honest variants at level standard", "", "| variant | graded | not honest here | refused |"]
    lines.append("|---|---|---|---|")
    for name in [*BY_NAME, "all"]:
        counts = [sum(name in {row.name, "all"} for row in group) for group in (ours, broken, alarms)]
        lines.append(f"| {name} | {counts[0]} | {counts[1]} | {counts[2]} |")
    lines += ["", "| library | fixes | with six variants or more | variants | refused |", "|---|---|---|---|---|"]
    gone = {(row.task, row.name) for row in broken}
    for library in [*sorted({row.library for row in ours}), "all"]:
        here = [row for row in ours if library in {row.library, "all"} and (row.task, row.name) not in gone]
        each = {row.task: sum(other.task == row.task for other in here) for row in here}
        enough = sum(count >= LEAST_VARIANTS for count in each.values())
        refused = sum(library in {row.library, "all"} for row in alarms)
        lines.append(f"| {library} | {len(each)} | {enough} | {len(here)} | {refused} |")
    lines += ["", *(f"- refused: {row.name} on {row.task}: {'; '.join(row.why)}" for row in alarms)]
    lost = [row for row in rows if row.outcome in {Outcome.UNSCORED, Outcome.CANCELLED}]
    return "\n".join([*lines, *(f"- {row.outcome}: {row.name} on {row.task}: {'; '.join(row.why)}" for row in lost)])


def main() -> None:
    """Grade and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--variant", nargs="+", choices=sorted(BY_NAME), help="only these")
    options = parser.parse_args()
    bench = make_bench(options)
    if not options.table:
        anyio.run(run, bench, options.variant or list(BY_NAME))
    print(table(bench.rows()))


if __name__ == "__main__":
    main()
