"""Takes an answer apart while it comes: reasoning, then content, and calls at the end. PURE.

Everything that was told, joined, is what `parse_reply` says about the whole text.
"""

from dataclasses import dataclass

from envfarm.model.chat_reply import Reply, parse_reply
from envfarm.model.chat_template import CALL, THINK, THINK_END


@dataclass(frozen=True)
class Told:
    """New text of an answer."""

    reasoning: str = ""
    content: str = ""


class ReplyStream:
    """One answer that comes in parts.

    Args of the constructor: `thinking` is False where the prompt closed the reasoning already.
    """

    def __init__(self, *, thinking: bool) -> None:
        self._thinking = thinking
        self._text = ""
        self._reasoning = self._content = ""

    def push(self, text: str) -> Told:
        """Take text, return what is certain."""
        self._text += text
        reasoning, content = self._certain()
        told = Told(reasoning[len(self._reasoning) :], content[len(self._content) :])
        self._reasoning, self._content = self._reasoning + told.reasoning, self._content + told.content
        return told

    def finish(self) -> tuple[Told, Reply]:
        """Return what was held back, and the whole answer."""
        reply = parse_reply(self._text, thinking=self._thinking)
        message = reply.message
        return Told(message.reasoning[len(self._reasoning) :], message.content[len(self._content) :]), reply

    def _certain(self) -> tuple[str, str]:
        """Return reasoning and content that no later text can change."""
        rest = self._text
        reasoning = ""
        if self._thinking:
            begun = rest.lstrip()
            if begun.startswith(THINK):
                reasoning, end, rest = begun.removeprefix(THINK).partition(THINK_END)
                if not end:
                    return _without_beginning(reasoning, THINK_END), ""
            elif THINK.startswith(begun):
                return "", ""
        before, call, _ = rest.partition(CALL)
        content = before if call else _without_beginning(before, CALL)
        return reasoning, content if content.strip() else ""


def _without_beginning(text: str, tag: str) -> str:
    """Return the text without an end that may become the tag."""
    held = next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:size])), 0)
    return text[: len(text) - held]
