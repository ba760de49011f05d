"""The kernels compute what torch computes, and a token's numbers are the same to the last bit in whatever company."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from envfarm.model.bundled_model import find_checkpoint
from envfarm.model.checkpoint_reader import load_model
from envfarm.model.engine.engine import Engine
from envfarm.model.engine.kernel_forward import KernelForward, choose_forward
from envfarm.model.engine.limits import EngineLimits
from envfarm.model.engine.request import Progress, Request, Sampling
from envfarm.model.engine.row_memory import Part, RowMemory, Seat
from envfarm.model.engine.step_forward import DraftRun, StepForward, TorchForward
from envfarm.model.kernels import libraries, structures, training_structures
from envfarm.model.kernels.halving import TILE, halve
from envfarm.model.kernels.libraries import KINDS, Kind, open_library, usable_kinds
from envfarm.model.kernels.packing import PackedModel
from envfarm.model.kernels.workers import split_evenly
from envfarm.model.mimo import MiMo
from envfarm.model.tokenizer import load_tokenizer

Make = Callable[..., Any]
GREEDY = Sampling(temperature=0)
USABLE = usable_kinds()
SHAPES: dict[str, dict[str, Any]] = {
    "odd sizes": {},
    "whole vectors": {
        "hidden_size": 64,
        "vocab_size": 128,
        "head_dim": 32,
        "v_head_dim": 32,
        "swa_head_dim": 32,
        "swa_v_head_dim": 32,
        "moe_intermediate_size": 32,
        "partial_rotary_factor": 0.5,
    },
    "many heads of one key": {
        "num_attention_heads": 64,
        "num_key_value_heads": 1,
        "swa_num_attention_heads": 6,
        "swa_num_key_value_heads": 6,
        "sliding_window": 70,
    },
    "many experts": {"n_routed_experts": 37, "num_experts_per_tok": 5, "routed_scaling_factor": 1.5},
    "no experts, no sinks": {
        "moe_layer_freq": (0, 0, 0, 0, 0),
        "n_routed_experts": 0,
        "num_experts_per_tok": 0,
        "add_swa_attention_sink_bias": False,
    },
    "sinks everywhere": {
        "add_full_attention_sink_bias": True,
        "sliding_window_includes_self": True,
        "norm_topk_prob": False,
    },
    "no blocks": {"num_nextn_predict_layers": 0},
}


@pytest.fixture(scope="module")
def bundled() -> MiMo:
    return load_model(find_checkpoint("bundled"))


def make_memory(model: MiMo) -> RowMemory:
    blocks = model.config.num_nextn_predict_layers
    return RowMemory(model.config, rows=40, capacity_tokens=8_192, draft_slots=2 * blocks, mtp_blocks=blocks)


def open_kernels(model: MiMo, memory: RowMemory, kind: Kind = USABLE[0] if USABLE else KINDS[0]) -> KernelForward:
    if kind not in USABLE:
        pytest.skip(f"this processor cannot run {kind.name}: use one that has {', '.join(sorted(kind.needs))}")
    return KernelForward(model, memory, open_library(kind))


def draw_tokens(count: int, seed: int, vocabulary: int) -> list[int]:
    return torch.randint(0, vocabulary, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.no_grad()
def go_on(
    forward: StepForward, memory: RowMemory, turns: Sequence[tuple[Seat, Sequence[int]]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run some tokens of each seat in one step; return hidden states and experts."""
    for seat, tokens in turns:
        memory.make_room(seat, seat.tokens + len(tokens))
    parts = [Part([seat], len(tokens)) for seat, tokens in turns]
    result = forward.run(parts, [token for _, tokens in turns for token in tokens], routing_wanted=True)
    for seat, tokens in turns:
        seat.tokens += len(tokens)
    assert result.chosen_N_L_K is not None
    return result.hidden_N_D.clone(), result.chosen_N_L_K


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_those_of_torch(small_config: Make, make_model: Make, shape: str) -> None:
    model = make_model(small_config(**SHAPES[shape]))
    memories = make_memory(model), make_memory(model)
    forwards: list[StepForward] = [TorchForward(model, memories[0]), open_kernels(model, memories[1])]
    seats = [[memory.take_seat() for _ in range(3)] for memory in memories]
    steps = [(0, 1), (150, 3), (1, 130), (1, 1), (4, 2), (17, 64), (3, 1)]
    for number, (first, others) in enumerate(steps):
        found = []
        for forward, memory, own in zip(forwards, memories, seats, strict=True):
            sizes = [first, others, others]
            turns = [
                (seat, draw_tokens(size, 10 * number + place, model.config.vocab_size))
                for place, (seat, size) in enumerate(zip(own, sizes, strict=True))
                if size
            ]
            hidden, chosen = go_on(forward, memory, turns)
            found.append((hidden, chosen, forward.logits(hidden, range(hidden.shape[0]))))
        (hidden, chosen, expected), (own_hidden, own_chosen, logits) = found
        torch.testing.assert_close(own_hidden, hidden, atol=2e-5, rtol=2e-5)
        assert torch.equal(own_chosen, chosen)
        torch.testing.assert_close(logits.logits_R_V, expected.logits_R_V, atol=3e-5, rtol=2e-5)
        assert list(logits.likeliest) == list(expected.likeliest)
        assert logits.highest_logprobs == pytest.approx(expected.highest_logprobs, abs=2e-5)
        assert all(logits.finite)


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind_of_processor_computes_the_same_bits(small_config: Make, make_model: Make, shape: str) -> None:
    if len(USABLE) < 2:
        pytest.skip("this processor can run one kind only: use one that has AVX-512")
    model = make_model(small_config(**SHAPES[shape]))
    found = []
    for kind in USABLE:
        memory = make_memory(model)
        forward, seats, hidden = open_kernels(model, memory, kind), [memory.take_seat() for _ in range(2)], []
        for number, size in enumerate((75, 1, 3, 20)):
            vocabulary = model.config.vocab_size
            turns = [(seat, draw_tokens(size, number + place, vocabulary)) for place, seat in enumerate(seats)]
            hidden.append(go_on(forward, memory, turns)[0])
        rows = torch.cat(hidden)
        found.append((rows, forward.logits(rows, range(rows.shape[0])).logits_R_V.clone()))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def guess(forward: StepForward, runs: Sequence[DraftRun], blocks: int) -> tuple[list[list[int]], list[torch.Tensor]]:
    """Guess block by block, as a drafter does; return guesses and logits."""
    guesses: list[list[int]] = [[] for _ in runs]
    logits = []
    for block in range(blocks):
        own = [
            DraftRun(
                run.seat,
                run.start - block,
                [*run.tokens, *before][blocks - 1 : len(run.tokens) + block],
                run.hidden_T_D[blocks - 1 - block :],
            )
            for run, before in zip(runs, guesses, strict=True)
        ]
        found = forward.guess(block, own)
        logits.append(found.logits_R_V.clone())
        for before, token in zip(guesses, found.likeliest, strict=True):
            before.append(int(token))
    return guesses, logits


@torch.no_grad()
def test_blocks_guess_as_torch_does_one_by_one_and_in_one_call(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    found: dict[str, list[Any]] = {"torch": [], "one by one": [], "in one call": []}
    for way, results in found.items():
        memory = make_memory(model)
        forward = TorchForward(model, memory) if way == "torch" else open_kernels(model, memory)
        seats = [memory.take_seat() for _ in range(40)]  # some guesses are close
        for new_tokens, rows in ((30, 20), (4, 5)):  # at first all that a window sees, then what is new
            runs = []
            for place, seat in enumerate(seats):
                hidden, _ = go_on(forward, memory, [(seat, draw_tokens(30 + place, place, 97)[:new_tokens])])
                recent = hidden if new_tokens == 30 else torch.cat((results[place].hidden_T_D, hidden))
                following = draw_tokens(rows + 2, 100 + place + new_tokens, 97)
                runs.append(DraftRun(seat, seat.tokens - rows, following, recent[-rows - 2 :]))
            if way == "in one call" and new_tokens == 4:
                results += [*runs, (forward.guess_all(runs, 3), [])]
            else:
                results += [*runs, guess(forward, runs, 3)]
    for round_end in (40, 81):
        (expected, logits), (guesses, own) = found["torch"][round_end], found["one by one"][round_end]
        assert guesses == found["in one call"][round_end][0] == expected
        for one, other in zip(logits, own, strict=True):
            torch.testing.assert_close(other, one, atol=3e-5, rtol=2e-5)


@torch.no_grad()
def test_a_token_has_the_same_bits_in_any_company(bundled: MiMo) -> None:
    """Alone, beside others, in chunks of any size, after other chunks, and in two threads."""
    prompts = [draw_tokens(length, length, 4_096) for length in (140, 3, 64, 65, 100)]
    alone, memory = [], make_memory(bundled)
    forward = open_kernels(bundled, memory)
    for prompt in prompts:
        seat = memory.take_seat()
        alone.append(torch.cat([go_on(forward, memory, [(seat, [token])])[0] for token in prompt]))
    torch.set_num_threads(2)
    try:
        memory = make_memory(bundled)
        forward = open_kernels(bundled, memory)
    finally:
        torch.set_num_threads(1)
    seats = [memory.take_seat() for _ in prompts]
    done: list[list[torch.Tensor]] = [[] for _ in prompts]
    sizes = [1, 5, 67, 2, 90, 4, 33, 140]
    for step in range(40):
        turns, owners = [], []
        for place, (seat, prompt) in enumerate(zip(seats, prompts, strict=True)):
            tokens = prompt[seat.tokens : seat.tokens + sizes[(step + 3 * place) % len(sizes)]]
            if tokens:
                turns.append((seat, tokens))
                owners.append(place)
        if not turns:
            break
        hidden, _ = go_on(forward, memory, turns)
        for place, part in zip(owners, hidden.split([len(tokens) for _, tokens in turns]), strict=True):
            done[place].append(part)
    for expected, parts in zip(alone, done, strict=True):
        assert torch.equal(torch.cat(parts), expected)
    rows = torch.cat(alone)
    together = forward.logits(rows, range(rows.shape[0])).logits_R_V.clone()
    one_by_one = [forward.logits(rows, [row]).logits_R_V.clone() for row in range(0, rows.shape[0], 50)]
    assert torch.equal(torch.cat(one_by_one), together[::50])


def answer(engine: Engine, requests: Sequence[Request]) -> list[list[Progress]]:
    found: dict[int, list[Progress]] = {engine.submit(request): [] for request in requests}
    while engine.has_work:
        for progress in engine.step():
            found[progress.request_id].append(progress)
    return list(found.values())


def tokens_of(progress: Sequence[Progress]) -> list[int]:
    return [token.token for one in progress for token in one.tokens]


def held_out_prompts(count: int, length: int) -> Iterator[tuple[int, ...]]:
    vocabulary = load_tokenizer(find_checkpoint("bundled"))
    paths = sorted(Path(__file__).parent.glob("*.py"))
    stream = vocabulary.encode("".join(path.read_text() for path in paths))
    stride = (len(stream) - length) // count
    for place in range(count):
        yield tuple(stream[place * stride : place * stride + length])


def test_greedy_answers_of_the_bundled_model_are_those_of_torch(bundled: MiMo) -> None:
    requests = [
        Request(prompt=prompt, most_tokens=12, sampling=GREEDY, routing_wanted=True)
        for prompt in held_out_prompts(120, 40)
    ]
    answers = []
    for kernels in (False, True):
        engine = Engine(bundled, EngineLimits(running=60, kernels=kernels), lambda _: b"x")
        assert (engine.runs_by == "torch") == (not kernels)
        answers.append(answer(engine, requests))
    assert len({tuple(tokens_of(own)) for own in answers[1]}) > 50
    for one, other in zip(*answers, strict=True):
        assert tokens_of(other) == tokens_of(one)
        assert other[-1].routing == one[-1].routing
        pairs = zip(*([token.logprob for part in own for token in part.tokens] for own in (one, other)), strict=True)
        assert max(abs(first - second) for first, second in pairs) < 1e-4


@pytest.mark.parametrize("draft_tokens", [0, 3])
def test_an_engine_answers_alike_with_and_without_kernels(
    small_config: Make, make_model: Make, draft_tokens: int
) -> None:
    """Drawn and greedy, with short memory, and in later turns."""
    model = make_model(small_config(vocab_size=7))
    samplings = [GREEDY, Sampling(seed=4), Sampling(temperature=0.7, top_p=0.9, seed=5)]
    answers = []
    for kernels in (False, True):
        limits = EngineLimits(
            draft_tokens=draft_tokens, capacity_tokens=7 * 64, chunk_tokens=50, kernels=kernels, kept_conversations=1
        )
        engine = Engine(model, limits, lambda _: b"x")
        first = [
            Request(prompt=tuple(draw_tokens(20 + place, place, 7)), most_tokens=60, sampling=samplings[place % 3])
            for place in range(6)
        ]
        found = [tokens_of(own) for own in answer(engine, first)]
        assert engine.counts.preemptions > 0
        prompt: tuple[int, ...] = ()
        for turn in range(4):
            prompt += tuple(draw_tokens(9, turn, 7))
            sampling = samplings[turn % 3]
            (own,) = answer(engine, [Request(prompt=prompt, most_tokens=15, sampling=sampling, conversation="one")])
            found.append(tokens_of(own))
            prompt += tuple(found[-1])
        assert engine.counts.reused_tokens > 0
        answers.append(found)
    assert answers[0] == answers[1]


@torch.no_grad()
def test_torch_can_go_on_with_what_the_kernels_left(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    memory = make_memory(model)
    kernels, plain = open_kernels(model, memory), TorchForward(model, memory)
    seat, tokens = memory.take_seat(), draw_tokens(120, 0, 97)
    parts, forwards = [], [kernels, plain, kernels, plain]
    for place, size in enumerate((70, 1, 1, 48)):
        parts.append(go_on(forwards[place], memory, [(seat, tokens[seat.tokens : seat.tokens + size])])[0])
    expected = model(torch.tensor([tokens])).hidden_B_T_D[0]
    torch.testing.assert_close(torch.cat(parts), expected, atol=2e-5, rtol=2e-5)


def test_an_engine_keeps_the_weights_that_it_was_made_with(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    request = Request(prompt=(1, 2, 3), most_tokens=8, sampling=GREEDY)
    engine = Engine(model, EngineLimits(), lambda _: b"x")
    (before,) = answer(engine, [request])
    for weight in model.parameters():
        weight.data.zero_()
    (after,) = answer(engine, [request])
    (anew,) = answer(Engine(model, EngineLimits(), lambda _: b"x"), [request])
    assert tokens_of(after) == tokens_of(before)
    assert tokens_of(anew) == [0] * 8


def test_numbers_that_are_not_finite_are_told(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    model.lm_head.weight.data[50] = torch.inf
    memory = make_memory(model)
    forward = open_kernels(model, memory)
    rows = torch.zeros(2, 40)
    rows[0] = torch.randn(40)
    assert list(forward.logits(rows, [0]).finite) == [0]
    model.lm_head.weight.data[50] = 0
    forward = open_kernels(model, memory)
    assert list(forward.logits(rows, [0, 1]).finite) == [1, 1]


@torch.no_grad()
def test_bundled_weights_are_halved_without_losing_a_bit(bundled: MiMo) -> None:
    halved = 0
    for name, weight in bundled.state_dict().items():
        if weight.dim() == 2 and not name.endswith("mlp.gate.weight"):
            found = halve(weight)
            assert found is not None, name
            numbers, factors = found
            assert numbers.dtype is torch.bfloat16
            wide = factors.repeat_interleave(TILE, 1)[:, : weight.shape[1]]
            assert torch.equal(numbers.float() * wide, weight), name
            halved += weight.numel()
    assert halved > 6_500_000


def test_a_weight_that_would_lose_something_is_not_halved(bundled: MiMo) -> None:
    weight = bundled.model.layers[1].self_attn.q_proj.weight.detach().clone()
    assert halve(weight) is not None
    weight[100, 150] = torch.nextafter(weight[100, 150], torch.tensor(torch.inf))
    assert halve(weight) is None
    assert halve(torch.randn(64, 64, generator=torch.Generator().manual_seed(0))) is None


def test_what_the_kernels_cannot_run_is_run_by_torch(
    small_config: Make, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config()

    def name(model: MiMo, *, kernels: bool = True, dtype: torch.dtype = torch.float32) -> str:
        return choose_forward(model, RowMemory(config, rows=2, capacity_tokens=64, dtype=dtype), kernels=kernels)[1]

    model = make_model(config)
    assert name(model) == (USABLE[0].name if USABLE else "torch")
    assert name(model, kernels=False) == "torch"
    assert name(make_model(config, dtype=torch.bfloat16), dtype=torch.bfloat16) == "torch"
    monkeypatch.setattr(libraries, "_features", lambda: frozenset({"avx2", "fma"}))
    monkeypatch.setattr(libraries.platform, "machine", lambda: "x86_64")
    assert [kind.name for kind in usable_kinds()] == ["avx2"]
    monkeypatch.setattr(libraries, "_features", lambda: frozenset({"sse2"}))
    assert (usable_kinds(), name(model)) == ([], "torch")
    monkeypatch.setattr(libraries.platform, "machine", lambda: "aarch64")
    assert [kind.name for kind in usable_kinds()] == ["neon"]
    monkeypatch.setattr(libraries.sys, "platform", "darwin")
    assert usable_kinds() == []


def test_a_library_that_cannot_be_loaded_is_replaced_by_torch(
    small_config: Make, make_model: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(libraries, "_FOLDER", tmp_path)
    open_library.cache_clear()
    config = small_config()
    memory = RowMemory(config, rows=2, capacity_tokens=64)
    assert choose_forward(make_model(config), memory, kernels=True)[1] == "torch"


@pytest.mark.parametrize("kind", USABLE, ids=lambda kind: kind.name)
def test_structures_have_the_sizes_of_the_source(kind: Kind) -> None:
    library = open_library(kind)
    sizes = [ctypes.sizeof(structure) for structure in (*structures.ALL, *training_structures.ALL)]
    assert [library.envfarm_structure_bytes(number) for number in range(len(sizes) + 1)] == [*sizes, 0]


def test_packing_asks_for_as_much_memory_as_it_uses(small_config: Make, make_model: Make, bundled: MiMo) -> None:
    for model in (bundled, *(make_model(small_config(**changes)) for changes in SHAPES.values())):
        packed = PackedModel(model)
        assert packed._used <= packed._arena.numel()


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
@pytest.mark.parametrize("sizes", [[1], [1, 1], [9, 1, 1], [1, 1, 9], [4] * 7, [1, 30, 2, 30, 1]])
def test_shares_of_threads_hold_everybody_once(sizes: list[int], parts: int) -> None:
    bounds = split_evenly(sizes, parts)
    assert [place for begin, end in bounds for place in range(begin, end)] == list(range(len(sizes)))
    assert len(bounds) <= parts
    assert all(begin < end for begin, end in bounds)
    if len(set(sizes)) == 1 and len(sizes) >= parts:
        assert len(bounds) == parts
