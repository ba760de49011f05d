"""Learning rate and MTP weight by step: warm up, stay, decay (WSD). PURE.

What happens before the decay does not depend on where the end is: a run whose decay has not begun may be given another
end, and is then the same run as one that had it from the start.
"""

from dataclasses import dataclass

MTP_WEIGHT_BEFORE, MTP_WEIGHT_IN_DECAY = 0.3, 0.1


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One schedule; steps are counted from 0.

    Attributes:
        peak: Learning rate between warm-up and decay.
        warmup_steps: Steps until the peak, rising linearly.
        steps: Steps of the whole run.
        decay_share: Which part of all steps decays, as 1 - sqrt(share of the decay that is done).
    """

    peak: float
    warmup_steps: int
    steps: int
    decay_share: float

    @property
    def decay_start(self) -> int:
        """The first step whose rate is lower again."""
        return self.steps - int(self.steps * self.decay_share)

    def learning_rate(self, step: int) -> float:
        """Return the rate of a step; never 0 within the run."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if step < self.decay_start:
            return self.peak
        done = (step - self.decay_start) / max(self.steps - self.decay_start, 1)
        return self.peak * (1 - float(done) ** 0.5 * (1 - 0.01)) if done < 1 else self.peak * 0.01

    def mtp_weight(self, step: int) -> float:
        """Return the weight of the MTP blocks' mean loss."""
        return MTP_WEIGHT_BEFORE if step < self.decay_start else MTP_WEIGHT_IN_DECAY
