"""Later turns of a conversation as tokens: what the model wrote stays the tokens that it wrote. PURE.

Earlier turns are compared as messages and never rendered again: a client that sends back what it got, reasoning
included, goes on from the very tokens of before.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from envfarm.model.chat import Message, Role, Tool
from envfarm.model.chat_template import TURN_END, Piece, render_conversation
from envfarm.model.tokenizer import Tokenizer


@dataclass(frozen=True)
class Past:
    """A conversation up to an answer, that included.

    Attributes:
        messages: As the client knows them.
        tools: As they were declared.
        tokens: Prompt and answer.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    tokens: tuple[int, ...]


class Conversations:
    """The newest conversations by name; the one that was not used for the longest time goes first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._past: OrderedDict[str, Past] = OrderedDict()

    def find(self, name: str | None) -> Past | None:
        """Return a conversation's past."""
        return None if name is None else self._past.get(name)

    def remember(self, name: str | None, past: Past) -> None:
        """Keep a conversation's past instead of an earlier one."""
        if name is None or not self._limit:
            return
        self._past[name] = past
        self._past.move_to_end(name)
        while len(self._past) > self._limit:
            self._past.popitem(last=False)


def prompt_parts(
    tokenizer: Tokenizer, messages: Sequence[Message], tools: Sequence[Tool], *, thinking: bool, past: Past | None
) -> tuple[Sequence[int], Sequence[Piece]]:
    """Return what a prompt is made of: the past's tokens, none where it does not go on from there, and what is new."""
    if past is None or not _goes_on(messages, tools, past):
        return (), render_conversation(messages, tools, thinking=thinking)
    new = render_conversation(messages[len(past.messages) :], thinking=thinking)
    end = () if past.tokens[-1] == tokenizer.tags[TURN_END] else (Piece(TURN_END, is_tag=True),)
    return past.tokens, (*end, *new)


def _goes_on(messages: Sequence[Message], tools: Sequence[Tool], past: Past) -> bool:
    known = len(past.messages)
    is_longer = len(messages) > known and messages[known].role is not Role.SYSTEM
    return is_longer and tuple(messages[:known]) == past.messages and tuple(tools) == past.tools
