"""Which tokens may follow so that a reply is a call, and so that it is only one. PURE.

Text is compared as bytes: a token may lie across the seam between a tag of the template and a value, as it does in
what the model was trained on. Tags are taken as their own tokens only.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence

from envfarm.errors import RequestRefusedError
from envfarm.model.call_grammar import CallGrammar, Place, State, ending_of
from envfarm.model.chat_reply import parse_reply
from envfarm.model.chat_template import CALL_END, TURN_END
from envfarm.model.engine.request import AllBut
from envfarm.model.tokenizer import Tokenizer

_SPARE_TOKENS = 8
"""As many more than the way to the end may be needed after one more token: text that is cut elsewhere; a guess."""
_MOST_STATES = 4_096

Allowed = tuple[int, ...] | AllBut


class TokenIndex:
    """A vocabulary in the order of its tokens' bytes.

    Args of the constructor: the vocabulary, and how many numbers the model gives: those beyond it are no text.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self.tokenizer = tokenizer
        tags = frozenset(tokenizer.tags.values())
        texts = [(tokenizer.token_bytes(token), token) for token in range(vocab_size) if token not in tags]
        self._sorted = sorted(pair for pair in texts if pair[0])
        self.no_text = tags | {token for text, token in texts if not text}

    def allowed(self, grammar: CallGrammar, state: State) -> Allowed:
        """Return the tokens that may follow."""
        tags = {self.tokenizer.tags[tag] for tag in grammar.tags(state)}
        if end := ending_of(state):
            risky = self._that_may_end(end, state)
            wrong = {token for text, token in risky if grammar.advance(state, text) is None}
            return AllBut((self.no_text | wrong) - tags)
        found = list(tags)
        self._collect(grammar, state, 0, (0, len(self._sorted)), found)
        return tuple(sorted(found))

    def encode(self, pieces: Sequence[bytes | str]) -> list[int]:
        """Return tokens for text as bytes and tags by name."""
        found: list[int] = []
        for piece in pieces:
            found += [self.tokenizer.tags[piece]] if isinstance(piece, str) else self._encode_bytes(piece)
        return found

    def _that_may_end(self, end: bytes, state: State) -> list[tuple[bytes, int]]:
        rest = end[len(state.matched) :]
        start, stop = bisect_left(self._sorted, (rest, -1)), bisect_left(self._sorted, (_after(rest), -1))
        return self._sorted[start:stop] + [pair for pair in self._sorted if end in pair[0]]

    def _collect(self, grammar: CallGrammar, state: State, size: int, run: tuple[int, int], found: list[int]) -> None:
        """Add the tokens of a run, which are alike in their first `size` bytes, that may go on from there."""
        place, stop = run
        while place < stop:
            text, token = self._sorted[place]
            if len(text) == size:
                found.append(token)
                place += 1
                continue
            end = bisect_left(self._sorted, (_after(text[: size + 1]), -1), place, stop)
            following = grammar.advance(state, text[size : size + 1])
            if following is not None:
                self._collect(grammar, following, size + 1, (place, end), found)
            place = end

    def _encode_bytes(self, text: bytes) -> list[int]:
        """Return tokens of text that may begin or end inside a character, or that the vocabulary would compose."""
        tokens = self.tokenizer.encode(text.decode("utf-8", "replace"))
        if b"".join(map(self.tokenizer.token_bytes, tokens)) == text:
            return tokens
        single = [bisect_left(self._sorted, (text[place : place + 1], -1)) for place in range(len(text))]
        return [self._sorted[place][1] for place in single]


class CallRules:
    """A grammar over a vocabulary; what may follow where is found once for all requests."""

    def __init__(self, grammar: CallGrammar, index: TokenIndex) -> None:
        self.grammar = grammar
        self.index = index
        self._allowed: dict[State, Allowed] = {}
        calls = [len(index.encode(call)) for call in grammar.calls()]
        self._longest_call, self._shortest_call = max(calls), min(calls)

    def allowed(self, state: State) -> Allowed:
        """Return the tokens that may follow."""
        if state not in self._allowed:
            if len(self._allowed) >= _MOST_STATES:
                self._allowed.clear()
            self._allowed[state] = self.index.allowed(self.grammar, state)
        return self._allowed[state]

    def step(self, state: State, token: int) -> State | None:
        """Return where a reply is after a token; None where it may not come."""
        text = self.index.tokenizer.token_bytes(token)
        if token in self.index.no_text:
            return self.grammar.tags(state).get(text.decode("utf-8", "replace"))
        return self.grammar.advance(state, text)

    def way_out(self, state: State) -> list[int]:
        """Return tokens that end the reply."""
        return self.index.encode(self.grammar.closing(state))

    def detour(self, state: State) -> int:
        """Return how much longer the way out may be after one more token."""
        if state.place is Place.AFTER:
            return self._longest_call + _SPARE_TOKENS
        if state.place is Place.HEAD:
            return self._longest_call - self._shortest_call + _SPARE_TOKENS
        left_out = [len(self.index.encode([text])) for text in self.grammar.left_out(state)]
        return max(left_out, default=0) + _SPARE_TOKENS


class CallConstraint:
    """Makes one reply a call: near the limit of its tokens it is led to its end by the shortest way."""

    def __init__(self, rules: CallRules, most_tokens: int) -> None:
        """Take the rules, and the reply's limit.

        Raises:
            RequestRefusedError: No call is so short.
        """
        self._rules = rules
        self._most_tokens = most_tokens
        self._state: State | None = rules.grammar.start
        self._seen = 0
        self._ending: tuple[int, list[int]] | None = None
        if (least := len(rules.way_out(rules.grammar.start))) > most_tokens:
            message = f"tool_choice: the shortest call has {least} tokens and the answer may have {most_tokens}"
            raise RequestRefusedError(message)

    def __call__(self, answer: Sequence[int]) -> Collection[int] | AllBut | None:
        """Return the tokens that may follow an answer that went on from the one of the call before."""
        if self._ending is None:
            self._ending = self._follow(answer)
        if self._ending is not None:
            start, tokens = self._ending
            return tokens[len(answer) - start :][:1]
        return () if self._state is None else self._rules.allowed(self._state)

    def _follow(self, answer: Sequence[int]) -> tuple[int, list[int]] | None:
        """Note new tokens; return the way out and where it begins, if it is time to take it."""
        for token in answer[self._seen :]:
            self._state = None if self._state is None else self._rules.step(self._state, token)
        self._seen = len(answer)
        state = self._state
        if state is None or state.place is Place.OVER:
            return None
        left = self._most_tokens - len(answer)
        rules, closing = self._rules, self._rules.grammar.closing(state)
        spare = rules.detour(state)
        if left > spare + sum(len(piece) if isinstance(piece, bytes) else 1 for piece in closing):
            return None
        tokens = rules.way_out(state)
        return (len(answer), tokens) if left <= spare + len(tokens) else None


class OneCall:
    """Ends a reply after its first call; until then anything may come."""

    def __init__(self, tokenizer: Tokenizer, *, thinking: bool) -> None:
        self._tokenizer = tokenizer
        self._thinking = thinking
        self._end = (tokenizer.tags[TURN_END],)
        self._text = bytearray()
        self._seen = 0
        self._is_called = False

    def __call__(self, answer: Sequence[int]) -> Collection[int] | None:
        """Return the tokens that may follow an answer that went on from the one of the call before."""
        end = CALL_END.encode()
        known = max(len(self._text) - len(end), 0)
        self._text += b"".join(map(self._tokenizer.token_bytes, answer[self._seen :]))
        self._seen = len(answer)
        if not self._is_called and self._text.find(end, known) >= 0:
            reply = parse_reply(self._text.decode("utf-8", "replace"), thinking=self._thinking)
            self._is_called = bool(reply.message.tool_calls)
        return self._end if self._is_called else None


def _after(prefix: bytes) -> bytes:
    """Return the first text behind all that begin with a prefix."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\xff" * 1_024
