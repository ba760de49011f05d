"""What answers clients: the engine that runs, the vocabulary, and what is remembered between requests."""

import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock

import msgspec

from envfarm.errors import RequestRefusedError
from envfarm.model.call_grammar import CallGrammar
from envfarm.model.chat import Tool
from envfarm.model.engine.engine_thread import RunningEngine
from envfarm.model.server.call_constraint import CallRules, TokenIndex
from envfarm.model.server.conversations import Conversations
from envfarm.model.tokenizer import Tokenizer

_MOST_RULES = 16


@dataclass
class Service:
    """What answers clients.

    Attributes:
        name: What the model is called.
        engine: The engine that runs.
        tokenizer: The model's vocabulary.
        conversations: Past turns.
        created: When the model was loaded, in seconds since 1970.
    """

    name: str
    engine: RunningEngine
    tokenizer: Tokenizer
    conversations: Conversations
    created: int = field(default_factory=lambda: int(time.time()))
    _rules: OrderedDict[bytes, CallRules] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def check_size(self, texts: Iterable[str]) -> None:
        """Refuse texts that cannot fit, before they take minutes to become tokens.

        Raises:
            RequestRefusedError: They have more characters than the longest context can stand for.
        """
        characters, most = sum(map(len, texts)), self.engine.engine.context_tokens
        if characters > self.tokenizer.most_characters(most):
            message = (
                f"the prompt has {characters:,} characters: that is more than {most:,} tokens, the longest that fits"
            )
            raise RequestRefusedError(message)

    def call_rules(self, tools: Sequence[Tool], *, thinking: bool, several: bool) -> CallRules:
        """Return the rules of replies that call one of some tools; those of the newest sets of tools are kept.

        Raises:
            RequestRefusedError: A required parameter has a name that no call can have.
        """
        grammar = CallGrammar(tools, thinking=thinking, several=several)
        key = msgspec.json.encode((grammar.signatures, thinking, several))
        with self._lock:  # bodies become requests in threads
            rules = self._rules.get(key)
            if rules is None:
                rules = self._rules[key] = CallRules(grammar, self._index)
            self._rules.move_to_end(key)
            while len(self._rules) > _MOST_RULES:
                self._rules.popitem(last=False)
        return rules

    @cached_property
    def _index(self) -> TokenIndex:
        return TokenIndex(self.tokenizer, self.engine.engine.vocab_size)
