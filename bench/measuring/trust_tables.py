"""Tables in Markdown of what many gradings came to. Pure: rows in, text out."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from measuring.grading_rows import NO_FIT, Row

from envfarm.audit.collection import CHEATS
from envfarm.records.task import TaskPackage

_SCORED = "scored"
_BLANKET = frozenset(cheat.name for cheat in CHEATS if cheat.blanket)
_MIXED_RUNS = 4
_PER_RUN, _ADDED_SECONDS = 0.9, 0.3
"""The bar: CPU of a full grading at most the whole run, plus K times 0.9 x the deciding run, plus 0.3 s."""

Rows = Sequence[Row]
Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


def cheat_table(rows: Rows, _: Sequence[TaskPackage]) -> str:
    """Return how many cheats each library's tasks accepted, by ours and by the usual way, and which."""
    lines = [
        "| library | tasks | cheats graded | ours accepts | plain graded | plain accepts |",
        "|---|---|---|---|---|---|",
    ]
    ours, plain = (_of(rows, kind) for kind in ("cheat", "cheat_plain"))
    for library, here in _by(ours, lambda row: row.library).items():
        usual = [row for row in plain if row.library == library]
        tasks = len({row.task for row in here})
        lines.append(f"| {library} | {tasks} | {len(here)} | {_paid(here)} | {len(usual)} | {_share_paid(usual)} |")
    blanket = [row for row in ours if row.name in _BLANKET]
    tasks = len({row.task for row in ours})
    lines.append(f"| all | {tasks} | {len(ours)} | {_paid(ours)} | {len(plain)} | {_share_paid(plain)} |")
    lines += ["", f"Blanket cheats: {_paid(blanket)} of {len(blanket)} accepted by ours."]
    lines += [f"- accepted by ours: {row.name} on {row.task}" for row in ours if row.reward]
    lines += _unscored(rows, "cheat")
    return _titled("Cheats at level standard", lines)


def fix_table(rows: Rows, _: Sequence[TaskPackage]) -> str:
    """Return how often true fixes were refused."""
    fixes = _of(rows, "fix")
    lines = ["| library | tasks | gradings | refused |", "|---|---|---|---|"]
    for library, here in {**_by(fixes, lambda row: row.library), "all": fixes}.items():
        lines.append(f"| {library} | {len({row.task for row in here})} | {len(here)} | {len(here) - _paid(here)} |")
    lines += ["", *(f"- refused: {row.task}, {'; '.join(row.why)}" for row in fixes if not row.reward)]
    lines += _unscored(rows, "fix")
    return _titled("True fixes at level standard", lines)


def protection_table(_: Rows, packages: Sequence[TaskPackage]) -> str:
    """Return which share of deciding functions is protected by values or strong twins, per library."""
    head = (
        "| library | tasks | functions | by values | by strong twins | weak | none | protected | every | at least one |"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|---|---|"]
    groups = {**_by(packages, lambda package: package.task.source.project), "all": list(packages)}
    for library, here in groups.items():
        found = [package.task.quality.protection for package in here if package.task.quality.protection is not None]
        values, strong = sum(item.values for item in found), sum(item.strong_twins for item in found)
        weak, none = sum(item.weak_twins for item in found), sum(item.none for item in found)
        count = values + strong + weak + none
        every = sum(item.weak_twins + item.none == 0 for item in found)
        some = sum(item.values + item.strong_twins > 0 for item in found)
        lines.append(
            f"| {library} | {len(here)} | {count} | {values} | {strong} | {weak} | {none} | "
            f"{_share(values + strong, count)} | {_share(every, len(here))} | {_share(some, len(here))} |"
        )
    runs = [package.task.quality.calibration_runs for package in packages if package.task.quality.calibration_runs]
    if runs:
        lines += ["", f"Calibration took {_median(runs):g} runs a task in the median, {max(runs)} at most."]
    return _titled("Deciding test functions by what protects them", lines)


def cost_table(rows: Rows, _: Sequence[TaskPackage]) -> str:
    """Return what a grading of the true fix costs beside bare runs of the same tests, medians per library."""
    head = "| library | tasks | bare whole, CPU s | standard, CPU s | of the bar | wall, x bare | fast, CPU x bare |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    counted = [row for row in _of(rows, "cost") if row.reward or row.name == "bare_whole"]
    found = {task: _cost(here) for task, here in _by(counted, lambda row: row.task).items()}
    library_of = {row.task: row.library for row in rows}
    groups = _by([task for task, cost in found.items() if cost], lambda task: library_of[task])
    for library, tasks in {**groups, "all": [task for here in groups.values() for task in here]}.items():
        if not tasks:
            continue
        figures = [_median(column) for column in zip(*(found[task] for task in tasks), strict=True)]
        lines.append(f"| {library} | {len(tasks)} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |")
    lines += ["", "Of the bar: CPU of the grading over whole + 4 x 0.9 x deciding + 0.3 s; at most 1. Wall at most 2,"]
    lines += ["fast at most 1.15."]
    lines += [*_unscored(rows, "cost"), *_not_passed(rows, "cost")]
    return _titled("Cost of a grading of the true fix", lines)


def same_table(rows: Rows, _: Sequence[TaskPackage]) -> str:
    """Return whether gradings of the same submission said the same."""
    lines = ["| task | submission | gradings | rewards | gates that were not content |", "|---|---|---|---|---|"]
    for (task, name), here in _by(_of(rows, "same"), lambda row: (row.task, row.name)).items():
        rewards = ", ".join(f"{reward}: {count}" for reward, count in Counter(row.reward for row in here).items())
        gates = Counter(", ".join(why.split(":")[0] for why in row.why) or "none" for row in here)
        told = "; ".join(f"{names} ({count})" for names, count in gates.items())
        lines.append(f"| {task} | {name} | {len(here)} | {rewards} | {told} |")
    lines += _unscored(rows, "same")
    return _titled("The same submission again and again", lines)


def _cost(rows: Rows) -> tuple[float, ...]:
    """Return bare CPU, standard CPU, its share of the bar, wall over bare, fast over bare; empty where one lacks."""
    by_name = _by(rows, lambda row: row.name)
    if not {"bare_whole", "bare_deciding", "standard", "fast"} <= by_name.keys():
        return ()
    whole = _median(row.test_cpu_seconds for row in by_name["bare_whole"])
    deciding = _median(row.test_cpu_seconds for row in by_name["bare_deciding"])
    standard = _median(row.cpu_seconds for row in by_name["standard"])
    bar = whole + _MIXED_RUNS * _PER_RUN * deciding + _ADDED_SECONDS
    wall = _median(row.seconds for row in by_name["standard"]) / _median(row.seconds for row in by_name["bare_whole"])
    fast = _median(row.cpu_seconds for row in by_name["fast"]) / _median(
        row.cpu_seconds for row in by_name["bare_whole"]
    )
    return whole, standard, standard / bar, wall, fast


def _of(rows: Rows, kind: str) -> list[Row]:
    return [row for row in rows if row.kind == kind and row.outcome == _SCORED]


def _unscored(rows: Rows, kind: str) -> list[str]:
    lost = [row for row in rows if row.kind == kind and row.outcome not in {_SCORED, NO_FIT}]
    return [f"- {row.outcome}: {row.name} on {row.task}: {'; '.join(row.why)}" for row in lost]


def _not_passed(rows: Rows, kind: str) -> list[str]:
    lost = [row for row in _of(rows, kind) if row.reward == 0 and row.name != "bare_whole"]
    return [f"- not counted, since it did not pass: {row.name} on {row.task}" for row in lost]


def _by(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    groups: defaultdict[Key, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(sorted(groups.items(), key=lambda pair: str(pair[0])))


def _paid(rows: Rows) -> int:
    return sum(bool(row.reward) for row in rows)


def _share_paid(rows: Rows) -> str:
    return f"{_paid(rows)} ({_share(_paid(rows), len(rows))})" if rows else "-"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _median(values: Iterable[float]) -> float:
    return statistics.median(list(values))


def _titled(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"### {title}", "", *lines, ""])


TABLES: Sequence[Callable[[Rows, Sequence[TaskPackage]], str]] = (
    cheat_table,
    fix_table,
    protection_table,
    cost_table,
    same_table,
)
