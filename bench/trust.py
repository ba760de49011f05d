"""What grading accepts and refuses, over many tasks: cheats, true fixes, repeated gradings, and what it all costs.

    bench/trust.py mined/*/tasks --out trust.jsonl --what cheats --seconds 3600
    bench/trust.py mined/*/tasks --out trust.jsonl --what cost --jobs 1
    bench/trust.py mined/*/tasks --out trust.jsonl --table

Level standard, unless a row says otherwise. Cheats that take all there is (family resources) are left out unless they
are asked for: each waits for its time limit. Costs are those of boxes, as their control groups count them.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import anyio
import msgspec
from measuring.bare_runs import BareVerifier
from measuring.grading_rows import Bench, Case, Handed, OpenTask, add_arguments, make_bench
from measuring.trust_tables import TABLES

from envfarm.audit.cheat import Cheat, Family
from envfarm.audit.collection import CHEATS
from envfarm.audit.plain import PlainVerifier
from envfarm.grading.grade import GradingOptions
from envfarm.grading.level import FAST, STANDARD
from envfarm.records.task import TaskPackage

BY_NAME: Mapping[str, Cheat] = {cheat.name: cheat for cheat in CHEATS}
LEVELS = {"standard": STANDARD, "fast": FAST}


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked for.

    Attributes:
        fix_times: How often each true fix is graded.
        cost_times: How often each cost is taken.
        same_times: How often the same submissions to one task are graded.
        same_task: Which task that is.
        cheat_seconds: Bound on a run of tests with a cheat.
        with_resources: Whether cheats that take all there is are tried.
    """

    fix_times: int
    cost_times: int
    same_times: int
    same_task: str
    cheat_seconds: float
    with_resources: bool


def cheat_cases(tasks: list[str], wish: Wish, kind: str) -> Iterator[Case]:
    """Yield every cheat on every task."""
    for task in tasks:
        for cheat in CHEATS:
            if wish.with_resources or cheat.family is not Family.RESOURCES:
                yield Case(task_id=task, kind=kind, name=cheat.name)


def fix_cases(tasks: list[str], wish: Wish) -> Iterator[Case]:
    """Yield the true fix of every task, some times."""
    for task in tasks:
        for number in range(wish.fix_times):
            yield Case(task_id=task, kind="fix", name="true_fix", number=number)


def same_cases(tasks: list[str], wish: Wish) -> Iterator[Case]:
    """Yield the same submissions to one task many times: the fix, no change, and two cheats."""
    task = wish.same_task or tasks[0]
    for number in range(wish.same_times):
        for name in ("true_fix", "no_change", "equal_to_all", "runner_runtest"):
            if name not in BY_NAME or number < wish.same_times // 4:
                yield Case(task_id=task, kind="same", name=name, number=number)


def cost_cases(tasks: list[str], wish: Wish) -> Iterator[Case]:
    """Yield what a grading of the true fix is compared with, and itself."""
    for task in tasks:
        for number in range(wish.cost_times):
            for name in ("bare_whole", "bare_deciding", *LEVELS):
                yield Case(task_id=task, kind="cost", name=name, number=number)


def make(wish: Wish, task: OpenTask, case: Case) -> Handed | None:
    """Return what is handed in for a case."""
    if case.name in BY_NAME:
        patch = BY_NAME[case.name].make(task.target)
        if patch is None:
            return None
        plain = PlainVerifier(task.target.hidden_tests) if case.kind == "cheat_plain" else None
        return Handed(patch=patch, verifier=plain, package=hasten(task.package, wish.cheat_seconds))
    if case.name == "no_change":
        return Handed(patch=b"")
    if case.name.startswith("bare_"):
        tests = task.package.task.tests
        names = tests.paths if case.name == "bare_whole" else definitions(tests.fail_to_pass)
        return Handed(patch=task.fix, verifier=BareVerifier(names))
    return Handed(patch=task.fix, options=GradingOptions(level=LEVELS.get(case.name, STANDARD)))


def definitions(ids: tuple[str, ...]) -> tuple[str, ...]:
    """Return the test functions of node ids, without parameters."""
    return tuple(dict.fromkeys(name.split("[")[0] for name in ids))


def hasten(package: TaskPackage, seconds: float) -> TaskPackage:
    """Return a task whose runs are given up sooner: a submission that hangs is worth nothing however long it waits."""
    tests = package.task.tests
    sooner = msgspec.structs.replace(
        tests,
        run_timeout_seconds=min(tests.run_timeout_seconds, seconds),
        test_timeout_seconds=min(tests.test_timeout_seconds, seconds / 2),
    )
    return replace(package, task=msgspec.structs.replace(package.task, tests=sooner))


CASES: Mapping[str, Callable[[list[str], Wish], Iterator[Case]]] = {
    "cheats": partial(cheat_cases, kind="cheat"),
    "plain": partial(cheat_cases, kind="cheat_plain"),
    "fixes": fix_cases,
    "same": same_cases,
    "cost": cost_cases,
}


async def run(bench: Bench, what: list[str], wish: Wish) -> None:
    """Grade what is asked for, one kind after the other."""
    tasks = [package.task.task_id for package in bench.packages]
    for name in what:
        await bench.run(CASES[name](tasks, wish), partial(make, wish))


def main() -> None:
    """Grade and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--what", nargs="+", choices=sorted(CASES), default=["cheats", "fixes"])
    parser.add_argument("--fix-times", type=int, default=10)
    parser.add_argument("--cost-times", type=int, default=3)
    parser.add_argument("--same-times", type=int, default=400)
    parser.add_argument("--same-task", default="", help="id of the task that is graded again and again")
    parser.add_argument("--cheat-seconds", type=float, default=60.0, help="bound on a run of tests with a cheat")
    parser.add_argument("--with-resources", action="store_true", help="also cheats that take all there is")
    options = parser.parse_args()
    bench = make_bench(options)
    if not options.table:
        wish = Wish(**{name: getattr(options, name) for name in Wish.__annotations__})
        anyio.run(run, bench, options.what, wish)
    rows = bench.rows()
    for table in TABLES:
        print(table(rows, bench.packages))


if __name__ == "__main__":
    main()
