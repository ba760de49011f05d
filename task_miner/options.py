"""What a run of the miner is asked for, and the version of the rules that it judges by. PURE."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

RULES_VERSION = "2"
"""Raised whenever the same candidate could be judged otherwise: rows of older rules are not believed."""


@dataclass(frozen=True, kw_only=True)
class MineOptions:
    """What a run of the miner is asked for.

    Attributes:
        repo: A clone, a git URL, a bundle, or ``pypi:NAME[A..B]``.
        out: Output folder.
        cache_folder: Where clones, environments and interpreters are kept between runs.
        limit: Most candidates that are taken, newest first; None for all.
        since: Oldest fix, ISO 8601 date or time; None for no bound.
        until: Youngest fix.
        runs: Validation runs a side, at least 3, the last one in random order.
        jobs: Candidates worked on at the same time.
        issues: Dump of issues and pull requests, where there is one.
        issues_digest: Digest of that dump: other issues make other statements.
        cutoff: ``commit``: no release younger than the fix; ``none``: no bound.
        mutants: Most mutants of the fix that are tried.
        run_timeout_seconds: Bound on one run of a candidate's tests.
        test_timeout_seconds: Bound on one test.
    """

    repo: str
    out: Path
    cache_folder: Path
    limit: int | None = None
    since: str | None = None
    until: str | None = None
    runs: int = 3
    jobs: int = 2
    issues: Path | None = None
    issues_digest: str = ""
    cutoff: str = "commit"
    mutants: int = 6
    run_timeout_seconds: float = 300.0
    test_timeout_seconds: float = 60.0

    def rules(self) -> str:
        """Return the version of everything that a candidate's fate depends on."""
        told = (
            RULES_VERSION,
            str(self.runs),
            self.cutoff,
            self.issues_digest,
            str(self.mutants),
            f"{self.run_timeout_seconds:g}",
            f"{self.test_timeout_seconds:g}",
        )
        return f"{RULES_VERSION}-{hashlib.sha256('/'.join(told).encode()).hexdigest()[:12]}"

    def as_fact(self) -> str:
        """Return the options as JSON, without where this run keeps its files."""
        told = {name: value for name, value in asdict(self).items() if name not in {"out", "cache_folder"}}
        return json.dumps(told | {"issues": str(self.issues) if self.issues else None}, sort_keys=True)
