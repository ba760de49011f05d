"""A claim: who holds a sandbox, and until when."""

from envfarm.records.versioned import Record


class Claim(Record, frozen=True, kw_only=True, tag="envfarm.claim/1"):
    """Who holds a sandbox. Times are seconds; the holder's key never stands in a record."""

    claim_id: str
    sandbox_id: str
    holder: str
    lease_seconds: float
