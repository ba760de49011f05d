"""A reply that has to be a call is one, whatever the model would rather write, with any limit that it is given."""

import random
from collections.abc import Sequence

import pytest

from envfarm.errors import RequestRefusedError
from envfarm.model.call_grammar import CallGrammar, Place, State
from envfarm.model.chat import Tool
from envfarm.model.chat_reply import Reply, parse_reply
from envfarm.model.chat_template import CALL, TURN_END
from envfarm.model.engine.request import AllBut
from envfarm.model.server.call_constraint import CallConstraint, CallRules, OneCall, TokenIndex
from envfarm.model.tokenizer import Tokenizer
from envfarm.model.tokenizer_training import train_tokenizer

VOCABULARY = 405
"""Five more than the tokenizer knows."""


def make_tool(name: str, *keys: str, required: Sequence[str] = ()) -> Tool:
    return Tool(name=name, parameters={"properties": {key: {} for key in keys}, "required": list(required)})


TOOLS = [
    make_tool("ls"),
    make_tool("edit", "path", "old", "new", required=["path", "new"]),
    make_tool("a_tool_with_a_long_name", *(f"parameter_{n}" for n in range(6)), required=["parameter_3"]),
    make_tool("schreibe_über", "größe"),
]


@pytest.fixture(scope="module")
def index(tokenizer: Tokenizer) -> TokenIndex:
    return TokenIndex(tokenizer, VOCABULARY)


def write(constraint: CallConstraint, most_tokens: int, luck: random.Random, likely: Sequence[int]) -> list[int]:
    """Write as a model would that follows nothing but luck."""
    answer: list[int] = []
    while len(answer) < most_tokens:
        allowed = constraint(answer)
        assert allowed is not None
        if isinstance(allowed, AllBut):
            tokens = [token for token in range(VOCABULARY) if token not in allowed.forbidden]
            tokens += [token for token in likely if token not in allowed.forbidden] * 20
        else:
            tokens = list(allowed)
        if not tokens:
            break
        answer.append(luck.choice(tokens))
    return answer


def check(tokenizer: Tokenizer, answer: Sequence[int], *, thinking: bool) -> Reply:
    """Return the reply, which has to be proper calls of the tools and nothing else."""
    assert answer[-1] == tokenizer.tags[TURN_END]
    assert TURN_END not in tokenizer.decode(answer[:-1])
    reply = parse_reply(tokenizer.decode(answer[:-1]), thinking=thinking)
    assert reply.complaints == ()
    assert reply.message.content == ""
    assert reply.message.tool_calls
    tools = {tool.name: tool.parameters for tool in TOOLS}
    for call in reply.message.tool_calls:
        assert set(tools[call.name]["required"]) <= set(call.arguments) <= set(tools[call.name]["properties"])
    return reply


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("several", [True, False])
def test_every_reply_is_a_call(tokenizer: Tokenizer, index: TokenIndex, *, thinking: bool, several: bool) -> None:
    rules = CallRules(CallGrammar(TOOLS, thinking=thinking, several=several), index)
    least = len(rules.way_out(rules.grammar.start))
    likely = [tokenizer.tags["</think>"], *tokenizer.encode("</parameter>\n<function=")]
    called, values, counts = set(), set(), set()
    for seed in range(100):
        most = least + seed * 3
        answer = write(CallConstraint(rules, most), most, random.Random(seed), likely)
        reply = check(tokenizer, answer, thinking=thinking)
        called |= {call.name for call in reply.message.tool_calls}
        values |= {value for call in reply.message.tool_calls for value in call.arguments.values()}
        counts.add(len(reply.message.tool_calls))
    assert called == {tool.name for tool in TOOLS}
    assert len(values) > 30
    assert (counts == {1}) == (not several)


def test_a_limit_without_room_for_a_call_is_refused(index: TokenIndex) -> None:
    rules = CallRules(CallGrammar(TOOLS[1:2], thinking=True, several=True), index)
    least = len(rules.way_out(rules.grammar.start))
    assert CallConstraint(rules, least)([])
    with pytest.raises(RequestRefusedError, match=f"the shortest call has {least} tokens and the answer may have"):
        CallConstraint(rules, least - 1)


def test_what_may_follow_is_what_the_grammar_takes_token_by_token(tokenizer: Tokenizer, index: TokenIndex) -> None:
    """The index walks over runs of tokens; here every token is tried."""
    grammar = CallGrammar(TOOLS, thinking=True, several=True)
    starts = [State(place) for place in (Place.START, Place.REASONING, Place.CALL, Place.HEAD, Place.AFTER)]
    starts += [State(Place.PARAMETERS, tool) for tool in range(4)]
    starts += [State(Place.VALUE, 1, frozenset({"path"}), b"</parameter>"[:size]) for size in range(12)]
    starts += [State(Place.REASONING, matched=b"</think>"[:size]) for size in range(8)]
    starts += [State(Place.HEAD, matched="\n<function=schreibe_ü".encode()[:size]) for size in range(21)]
    tags = {token: tag for tag, token in tokenizer.tags.items()}
    sizes = set()
    for state in starts:
        found = index.allowed(grammar, state)
        expected = {
            token
            for token in range(VOCABULARY)
            if (
                tags[token] in grammar.tags(state)
                if token in tags
                else tokenizer.token_bytes(token) and grammar.advance(state, tokenizer.token_bytes(token)) is not None
            )
        }
        told = set(range(VOCABULARY)) - found.forbidden if isinstance(found, AllBut) else set(found)
        assert told == expected
        sizes.add(len(told))
    assert len(sizes) > 5


def test_a_token_may_lie_across_the_seam_to_a_value() -> None:
    """Text is cut as the model knows it: no seam of ours shows in the tokens."""
    tokenizer = train_tokenizer(["<parameter=path>\n\n</parameter>\n" * 50], 300)
    index = TokenIndex(tokenizer, tokenizer.size)
    rules = CallRules(CallGrammar(TOOLS[1:2], thinking=False, several=False), index)
    text = b"\n<function=edit>\n<parameter=path>\n\n</parameter>\n<parameter=new>x</parameter>\n</function>\n"
    answer = index.encode([CALL, text])
    constraint = CallConstraint(rules, 500)
    for place, token in enumerate(answer):
        allowed = constraint(answer[:place])
        assert token not in allowed.forbidden if isinstance(allowed, AllBut) else token in (allowed or ())
    pieces = [tokenizer.token_bytes(token) for token in answer]
    seams = {text.index(b"path>") + 5, text.index(b"</parameter>")}
    ends = {sum(map(len, pieces[1:place])) for place in range(1, len(pieces) + 1)}
    assert seams - ends


@pytest.mark.parametrize("thinking", [True, False])
def test_where_one_call_is_allowed_the_reply_ends_after_it(tokenizer: Tokenizer, *, thinking: bool) -> None:
    before = "<think><tool_call>\n<function=f>\n</function>\n</tool_call></think>" if thinking else ""
    broken = "<tool_call>\n<function>\n</tool_call>"
    call = "<tool_call>\n<function=f>\n</function>\n</tool_call>"
    answer = tokenizer.encode(before + broken + call)  # tags spelled out: what is told is text
    end = OneCall(tokenizer, thinking=thinking)
    for place in range(len(answer)):
        assert end(answer[:place]) is None
    assert end(answer) == (tokenizer.tags[TURN_END],)
    assert end([*answer, 5]) == (tokenizer.tags[TURN_END],)
