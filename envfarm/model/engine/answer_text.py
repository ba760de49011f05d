"""Turns an answer's tokens into text as they come, and finds stop texts in it. PURE.

Text comes out only when it is whole characters, and cannot be the beginning of a stop text.
"""

import codecs
from collections.abc import Sequence


class AnswerText:
    """The text of one answer; after `stopped` nothing more comes.

    Attributes:
        stopped: A stop text was found; it and what follows are not part of the text.
    """

    def __init__(self, stop_texts: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = [text for text in stop_texts if text]
        self._held = ""
        self.stopped = False

    def push(self, content: bytes) -> str:
        """Take a token's bytes, return the text that is certain."""
        return self._take(self._decoder.decode(content))

    def finish(self) -> str:
        """Return what was held back; the answer is over."""
        text = self._take(self._decoder.decode(b"", final=True)) + self._held
        self._held = ""
        return text

    def _take(self, new: str) -> str:
        if self.stopped or not new:
            return ""
        text = self._held + new
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """Return how long the longest end of the text is that begins the stop text."""
    longest = min(len(stop) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
