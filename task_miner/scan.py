"""Reads history and chooses the candidates: the scan and screen stages.

Runs in a thread of its own, because git's output and syntax trees are blocking work. It neither writes the ledger nor
shows anything: it hands batches to `deliver`, in the order of history, and stops when `deliver` says so by raising.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from task_miner.candidate import candidate_of
from task_miner.history import iterate_units
from task_miner.languages.contract import Language
from task_miner.ledger import StageRow
from task_miner.options import MineOptions
from task_miner.project_name import project_name_at
from task_miner.reasons import ReasonCode, Stage
from task_miner.screen import screen
from task_miner.sources import Source
from task_miner.sources.git_command import ObjectReader
from task_miner.unit import Candidate, Unit

_BATCH_UNITS = 200


@dataclass(frozen=True, kw_only=True)
class ScanBatch:
    """What a stretch of history came to.

    Attributes:
        units: Units read in it.
        rows: New rows for the ledger.
        candidates: Candidates in it, newest first.
    """

    units: int
    rows: tuple[StageRow, ...]
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, kw_only=True)
class ScanRequest:
    """What to scan.

    Attributes:
        source: The repository.
        options: Bounds of the run.
        language: Whose paths and syntax decide.
        known: By the first 12 digits of the commit: what an earlier run's screen said under the same rules.
    """

    source: Source
    options: MineOptions
    language: Language
    known: Mapping[str, ReasonCode]


def scan_history(request: ScanRequest, deliver: Callable[[ScanBatch], None]) -> None:
    """Deliver the whole history in batches, candidates among it, at most as many as the options allow.

    Raises:
        RepositoryError: History cannot be read.
    """
    with ObjectReader(request.source.git_folder) as reader:
        scanner = _Scanner(request, reader)
        left = request.options.limit
        batch = _Batch()
        for unit in _units(request):
            candidate = scanner.take(unit, batch)
            if candidate is not None and left is not None:
                left -= 1
            if candidate is not None or batch.units >= _BATCH_UNITS:
                deliver(batch.closed())
                batch = _Batch()
            if left == 0:
                break
        deliver(batch.closed())


def _units(request: ScanRequest) -> Iterator[Unit]:
    source, options = request.source, request.options
    return iterate_units(
        source.git_folder, source.head, since=options.since, until=options.until, released=source.kind == "pypi"
    )


class _Batch:
    def __init__(self) -> None:
        self.units = 0
        self.rows: list[StageRow] = []
        self.candidates: list[Candidate] = []

    def closed(self) -> ScanBatch:
        return ScanBatch(units=self.units, rows=tuple(self.rows), candidates=tuple(self.candidates))


class _Scanner:
    def __init__(self, request: ScanRequest, reader: ObjectReader) -> None:
        self._request = request
        self._reader = reader
        self._fallback = request.source.name
        self._rules = request.options.rules()
        self._name_of = lru_cache(maxsize=64)(self._read_name)

    def take(self, unit: Unit, batch: _Batch) -> Candidate | None:
        """Judge one unit, note its rows, and return it when it is a candidate."""
        batch.units += 1
        known = self._request.known.get(unit.commit[:12])
        found = candidate_of(unit, self._request.language.paths, self._fallback)
        if isinstance(found, ReasonCode):
            if known is None:
                batch.rows.append(self._row(f"{self._fallback}-{unit.commit[:12]}", Stage.SCAN, found))
            return None
        candidate = replace(found, candidate_id=f"{self._name_of(unit.commit)}-{unit.commit[:12]}")
        code = known
        if code is None:
            code = screen(candidate, self._reader.read, self._request.language.code)
            batch.rows += [
                self._row(candidate.candidate_id, Stage.SCAN, ReasonCode.OK),
                self._row(candidate.candidate_id, Stage.SCREEN, code),
            ]
        if code is not ReasonCode.OK:
            return None
        batch.candidates.append(candidate)
        return candidate

    def _read_name(self, commit: str) -> str:
        return project_name_at(self._reader, commit) or self._fallback

    def _row(self, name: str, stage: Stage, code: ReasonCode) -> StageRow:
        return StageRow(candidate_id=name, stage=stage, code=code, rules=self._rules, source=self._request.source.key)


def known_screens(rows: Iterable[StageRow], rules: str) -> dict[str, ReasonCode]:
    """Return what earlier scans and screens said under these rules, by the first 12 digits of the commit.

    Later rows win: give the scan's rows before the screen's.
    """
    known: dict[str, ReasonCode] = {}
    for row in rows:
        if row.rules == rules and not (row.stage is Stage.SCAN and row.code is ReasonCode.OK):
            known[row.candidate_id.rsplit("-", 1)[1]] = row.code
    return known
