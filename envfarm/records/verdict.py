"""A verdict: scored with a reward, or unscored with a failure, or cancelled. Never anything between.

`reward` is absent unless the outcome is SCORED, so that nobody can take "no reward" for 0. Build a verdict with
`scored`, `unscored` or `cancelled`; a record from elsewhere that breaks the rule is refused when it is decoded.
"""

import math
from enum import StrEnum

from envfarm.errors import Attribution
from envfarm.records.versioned import Part, Record


class Outcome(StrEnum):
    """The three ways in which a grading can end."""

    SCORED = "scored"
    UNSCORED = "unscored"
    CANCELLED = "cancelled"


class Component(Part, frozen=True, kw_only=True):
    """One part of a verdict: a check and what it found, in words that a person understands."""

    name: str
    value: float
    """1.0 where the check is content, 0.0 where it is not, or a share between."""
    weight: float = 0.0
    """Share of the reward; 0 for a gate, which has to be content, and for what is only told."""
    rationale: str = ""
    evidence: dict[str, str] = {}


class Failure(Part, frozen=True, kw_only=True):
    """Why there is no reward, and whose fault that is."""

    attribution: Attribution
    code: str
    message: str
    retryable: bool
    phase: str
    """image, start, apply, verify, judge."""


class Provenance(Part, frozen=True, kw_only=True):
    """What exactly was judged, by what."""

    task_digest: str
    submission_digest: str
    verifier: str
    verifier_version: str
    image_id: str = ""
    level: str = ""


class Verdict(Record, frozen=True, kw_only=True, tag="envfarm.verdict/1"):
    """The answer of a grading."""

    task_id: str
    outcome: Outcome
    reward: float | None = None
    components: tuple[Component, ...] = ()
    failure: Failure | None = None
    provenance: Provenance | None = None
    seconds: dict[str, float] = {}
    """Wall-clock seconds per phase."""

    def __post_init__(self) -> None:
        """Refuse a verdict that could be misread."""
        if (self.reward is not None) != (self.outcome is Outcome.SCORED):
            message = "a verdict has a reward exactly when its outcome is SCORED"
            raise ValueError(message)
        if (self.failure is not None) != (self.outcome is Outcome.UNSCORED):
            message = "a verdict has a failure exactly when its outcome is UNSCORED"
            raise ValueError(message)
        if self.reward is not None and not math.isfinite(self.reward):
            message = "a reward is a finite number"
            raise ValueError(message)
