"""What `bench/model.py` measures, one method for each row of its table."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from measuring.model_couplings import coupling_rows
from measuring.model_needles import needle_rows
from measuring.model_twin import make_twin
from torch.nn import functional

from envfarm.model.bundled_model import find_checkpoint
from envfarm.model.checkpoint_reader import load_model
from envfarm.model.config import LayerKind, MiMoConfig
from envfarm.model.engine.engine import Engine
from envfarm.model.engine.limits import EngineLimits
from envfarm.model.engine.request import Request, Sampling
from envfarm.model.key_value_cache import KeyValueCache
from envfarm.model.kv_bytes import key_value_bytes
from envfarm.model.mimo import MiMo, initialise
from envfarm.model.tokenizer import Tokenizer, load_tokenizer
from envfarm.training.by_kernels.calls import choose_calls
from envfarm.training.corpus import read_documents
from envfarm.training.optimiser import make_optimiser
from envfarm.training.packing import Batch
from envfarm.training.presets import PRESETS, Recipe
from envfarm.training.train_step import train_step

GREEDY = Sampling(temperature=0)
_ANSWER, _PROMPT = 64, 64


def open_bench(model: str, data: Path, repeats: int, threads: int, clock: str) -> "ModelBench":
    """Return the bench of a checkpoint; held-out files give its prompts, `clock` is wall or cpu."""
    if threads:
        torch.set_num_threads(threads)
    folder = find_checkpoint(model)
    vocabulary = load_tokenizer(folder)
    documents: dict[str, list[list[int]]] = {}
    for document in read_documents(data, "held_out"):
        documents.setdefault(document.domain, []).append(vocabulary.encode(document.text))
    return ModelBench(
        load_model(folder), vocabulary, documents, repeats, time.process_time if clock == "cpu" else time.perf_counter
    )


@dataclass
class ModelBench:
    """A checkpoint that is measured.

    Attributes:
        model: Its weights, in float32.
        vocabulary: Its tokens.
        documents: Held-out files as tokens, by domain.
        repeats: How often each side is measured, in turn.
        clock: Gives seconds.
    """

    model: MiMo
    vocabulary: Tokenizer
    documents: dict[str, list[list[int]]]
    repeats: int
    clock: Callable[[], float]
    _engines: dict[tuple[int, int], tuple[MiMo, Engine]] = field(default_factory=dict, init=False)

    def decode(self) -> Iterator[str]:
        """Yield tokens/s of 1 and 32 requests beside generate() with its cache."""
        model, twin = self._pair()
        for requests, bar in ((1, 4.0), (32, 3.0)):
            prompts = self._prompts(requests, _PROMPT)
            ids = torch.tensor(prompts)

            def ours(prompts: Sequence[Sequence[int]] = prompts) -> None:
                self._generate(prompts, GREEDY, 0, model=model)

            def theirs(ids: torch.Tensor = ids) -> None:
                twin.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=_ANSWER, do_sample=False)

            mine, peer, ratio = self._race(ours, theirs)
            count = requests * _ANSWER
            yield (
                f"decode, {requests:2} requests, by {self._engine(0, model).runs_by}: {count / mine:,.0f} tokens/s, "
                f"transformers {count / peer:,.0f}: {ratio:.2f} x (bar {bar:.0f} x)"
            )

    @torch.no_grad()
    def prefill(self) -> Iterator[str]:
        """Yield seconds of an 8 K prompt beside one forward that fills its cache."""
        (model, twin), length = self._pair(), 8_192
        stream = [token for documents in self.documents.values() for tokens in documents for token in tokens]
        prompt = (stream * (length // len(stream) + 1))[:length]
        ids = torch.tensor([prompt])
        mine, peer, ratio = self._race(
            lambda: self._generate([prompt], GREEDY, 0, answer=1, model=model),
            lambda: twin(ids, use_cache=True, logits_to_keep=1),
        )
        yield (
            f"prefill of {length:,} tokens: {length / mine:,.0f} tokens/s, "
            f"transformers {length / peer:,.0f}: {ratio:.2f} x (bar 1.5 x)"
        )

    def mtp(self) -> Iterator[str]:
        """Yield, by domain, how much faster guessing makes one request, and how many tokens a step gives."""
        for domain in sorted(self.documents):
            prompts = [tokens[:_PROMPT] for tokens in self.documents[domain] if len(tokens) > _PROMPT][::7][:6]
            for name, sampling in (("greedy", GREEDY), ("temperature 1", Sampling(temperature=1.0))):
                ratios, lengths = [], []
                for prompt in prompts:
                    ratio = self._race(
                        lambda prompt=prompt, sampling=sampling: self._generate([prompt], sampling, 3),
                        lambda prompt=prompt, sampling=sampling: self._generate([prompt], sampling, 0),
                    )[2]
                    ratios.append(ratio)
                    lengths.append(self._tokens_in_a_step(prompt, sampling))
                if ratios:
                    yield (
                        f"MTP on against off, {domain}, {name}: {statistics.median(ratios):.2f} x (bar 2 x), "
                        f"{statistics.mean(lengths):.2f} tokens of 4 in a step (bar 2.5), {len(prompts)} prompts"
                    )

    def couplings(self) -> Iterator[str]:
        """Yield, by domain, how often guesses are right, beside another way to decide it: docs/decisions/0028."""
        yield from coupling_rows(self._engine(3), self.documents)

    def kv(self) -> Iterator[str]:
        """Yield bytes of keys and values at 128 K, counted in a cache, beside the formula and an all-global cache."""
        length = 131_072
        for name, config in (("this model", self.model.config), ("the real shape", _real_shape())):
            cache = KeyValueCache(config, rows=1, dtype=torch.bfloat16, device="meta")
            cache.main[LayerKind.GLOBAL].reserve(length)
            counted = sum(part.key_value_bytes for part in cache.main.values())
            theory = key_value_bytes(config, length)
            yield (
                f"keys and values at 128 K, {name}: {counted:,} bytes counted, {theory.hybrid:,} by formula "
                f"({100 * counted / theory.hybrid - 100:+.2f} %, bar 1 %); "
                f"all-global {theory.all_global / counted:.2f} x"
            )

    def turns(self) -> Iterator[str]:
        """Yield tokens and time of a conversation of ten turns beside one equal pass."""
        turns, new, answer = 10, 64, 16
        stream = self._prompts(1, turns * new)[0]
        counted: list[int] = []

        def conversation() -> None:
            engine, known = self._engine(0), []
            engine.forget("one")
            before = engine.counts.prefilled_tokens, engine.counts.reused_tokens
            for turn in range(turns):
                known += stream[turn * new : (turn + 1) * new]
                request = Request(prompt=tuple(known), most_tokens=answer, sampling=GREEDY, conversation="one")
                known += _run(engine, [request])[0]
            counted[:] = [engine.counts.prefilled_tokens - before[0], engine.counts.reused_tokens - before[1]]

        def single() -> None:
            request = Request(prompt=tuple(stream), most_tokens=turns * answer, sampling=GREEDY)
            _run(self._engine(0), [request])

        mine, peer, ratio = self._race(conversation, single)
        # The last token of an answer was never put into the model: the next turn does that.
        wanted = turns * new + turns - 1
        yield (
            f"ten turns: {counted[0]} tokens prefilled, {wanted} are new; "
            f"{1 / ratio:.2f} x the time of one pass (bar 1.1 x): {mine:.2f} s, {peer:.2f} s"
        )

    def training(self) -> Iterator[str]:
        """Yield tokens/s of a training step beside a plain eager one, without MTP blocks, in short and long rows."""
        recipe = PRESETS["bundled"].recipe
        yield self._train(replace(recipe, mtp_rows=0), "bar 2 x")
        yield self._train(replace(recipe, mtp_rows=0, rows=1, row_tokens=2_048), "no bar")

    def _train(self, recipe: Recipe, bar: str) -> str:
        shape = recipe.rows, recipe.row_tokens
        ids = torch.tensor(self._prompts(1, shape[0] * shape[1])[0]).view(shape)
        batch = Batch(ids, torch.zeros_like(ids))
        model, twin = self._pair()
        model.train(), twin.train()
        optimiser = make_optimiser(model, recipe)
        calls = choose_calls("cpu", torch.get_num_threads())
        plain = torch.optim.AdamW(twin.parameters(), lr=recipe.schedule.peak, foreach=False)

        def theirs() -> None:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = twin(ids, use_cache=False).logits
            loss = functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())
            plain.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(twin.parameters(), recipe.clip, foreach=False)
            plain.step()

        mine, peer, ratio = self._race(
            lambda: train_step(model, optimiser, batch, recipe, 500, torch.bfloat16, calls), theirs
        )
        count = shape[0] * shape[1]
        return (
            f"training step, rows of {recipe.row_tokens:,}, by {'kernels' if calls else 'torch'}: "
            f"{count / mine:,.0f} tokens/s, "
            f"plain eager {count / peer:,.0f}: {ratio:.2f} x ({bar})"
        )

    def needles(self) -> Iterator[str]:
        """Yield how often a number far back is found again, by length and rotary base."""
        stream = [token for tokens in self.documents.get("python", []) for token in tokens]
        yield from needle_rows(self.model, self.vocabulary, stream, PRESETS["bundled"].recipe.row_tokens)

    def _pair(self) -> tuple[MiMo, Any]:
        """Return a model and its twin with the same weights.

        Theirs has window layers with twice the key-value heads of global ones, and no others: where this checkpoint
        has other ones, both get that many, and random weights.
        """
        config = self.model.config
        paired = replace(config, swa_num_key_value_heads=2 * config.num_key_value_heads)
        model = MiMo(paired).eval()
        if paired == config:
            model.load_state_dict(self.model.state_dict())
        else:
            initialise(model, 0)
        return model, make_twin(model)

    def _engine(self, drafts: int, model: MiMo | None = None) -> Engine:
        """Return an engine; it is made once, as the peer's weights are loaded once, and keeps nothing of a request."""
        own = model or self.model
        key = drafts, id(own)
        if key not in self._engines:
            limits = EngineLimits(draft_tokens=drafts, chunk_tokens=512)
            self._engines[key] = (
                own,
                Engine(own, limits, self.vocabulary.token_bytes),
            )  # a model's id is its own so long
        return self._engines[key][1]

    def _tokens_in_a_step(self, prompt: Sequence[int], sampling: Sampling) -> float:
        """Return how many tokens a step with guesses gives, the first one, which a prompt gives, left out."""
        counts = self._engine(3).counts
        steps, tokens = counts.steps, counts.generated_tokens
        self._generate([prompt], sampling, 3)
        return (counts.generated_tokens - tokens - 1) / (counts.steps - steps - 1)

    def _generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        drafts: int,
        answer: int = _ANSWER,
        model: MiMo | None = None,
    ) -> Engine:
        engine = self._engine(drafts, model)
        _run(engine, [Request(prompt=tuple(prompt), most_tokens=answer, sampling=sampling) for prompt in prompts])
        return engine

    def _prompts(self, count: int, length: int) -> list[list[int]]:
        stream = [token for documents in self.documents.values() for tokens in documents for token in tokens]
        stream = stream * (count * length // len(stream) + 1)
        return [stream[place * length : (place + 1) * length] for place in range(count)]

    def _race(self, ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[float, float, float]:
        """Return median seconds of both, and the median of their ratios."""
        ours(), theirs()
        mine, peer = [], []
        for _ in range(self.repeats):
            for times, act in ((mine, ours), (peer, theirs)):
                started = self.clock()
                act()
                times.append(self.clock() - started)
        ratio = statistics.median(b / a for a, b in zip(mine, peer, strict=True))
        return statistics.median(mine), statistics.median(peer), ratio


def _run(engine: Engine, requests: Sequence[Request]) -> list[list[int]]:
    """Return each request's tokens."""
    found: dict[int, list[int]] = {engine.submit(request): [] for request in requests}
    while engine.has_work:
        for progress in engine.step():
            found[progress.request_id] += [token.token for token in progress.tokens]
    return list(found.values())


def _real_shape() -> MiMoConfig:
    return MiMoConfig(
        vocab_size=152_576,
        hidden_size=4_096,
        intermediate_size=16_384,
        moe_intermediate_size=2_048,
        num_attention_heads=64,
        num_key_value_heads=4,
        head_dim=192,
        v_head_dim=128,
        swa_num_attention_heads=64,
        swa_num_key_value_heads=8,
        swa_head_dim=192,
        swa_v_head_dim=128,
        hybrid_layer_pattern=tuple(int(layer not in {0, 5, 11, 17, 23, 29, 35, 41, 47}) for layer in range(48)),
        moe_layer_freq=(0,) + (1,) * 47,
        n_routed_experts=256,
        num_experts_per_tok=8,
    )
