"""A prompt of 256 K tokens from its first token on, in chunks: seconds, and how far memory grows beside the cache.

    bench/long_context.py
    bench/long_context.py --tokens 32768 --threads 1

The model is tiny, with one global and one window layer, so that nothing but attention over everything counts. The floor
is the formula's bytes of keys and values; what is above it is scratch, which has to stay the same at every length.
"""

import argparse
import resource
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envfarm.model.engine.engine import Engine
    from envfarm.model.mimo import MiMo

WHOLE = 262_144
_ANSWER = 8


def main() -> None:
    """Measure and print; exit code 1 if memory grows by more than the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=WHOLE, help="of prompt and answer")
    parser.add_argument("--chunk", type=int, default=512, help="tokens of the prompt in one step")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0 for torch's own choice")
    parser.add_argument("--bar-bytes", type=int, default=300_000_000, help="most growth beyond the cache")
    options = parser.parse_args()
    line, beyond = _measure(options.tokens, options.chunk, options.threads)
    sys.stdout.write(f"{line} (bar {options.bar_bytes / 1e6:.0f} MB)\n")
    sys.exit(beyond > options.bar_bytes)


def _measure(tokens: int, chunk: int, threads: int) -> tuple[str, int]:
    """Return what to print, and by how many bytes memory grew beyond keys and values."""
    import torch  # it takes seconds to import: not for --help

    from envfarm.model.config import MiMoConfig
    from envfarm.model.kv_bytes import key_value_bytes
    from envfarm.model.mimo import MiMo, initialise

    if threads:
        torch.set_num_threads(threads)
    config = MiMoConfig(
        vocab_size=64, hidden_size=16, intermediate_size=16, moe_intermediate_size=8, num_attention_heads=1,
        num_key_value_heads=1, head_dim=8, v_head_dim=8, swa_num_attention_heads=1, swa_num_key_value_heads=1,
        swa_head_dim=8, swa_v_head_dim=8, hybrid_layer_pattern=(0, 1), moe_layer_freq=(0, 1), n_routed_experts=4,
        num_experts_per_tok=2, partial_rotary_factor=0.5,
    )  # fmt: skip
    model = MiMo(config)
    initialise(model, 0)
    _generate(model, 1_024, chunk)  # what torch takes once
    before, started = _peak_bytes(), time.monotonic()
    counts = _generate(model, tokens, chunk).counts
    seconds, grown = time.monotonic() - started, _peak_bytes() - before
    floor = key_value_bytes(config, tokens, number_bytes=4).hybrid
    line = (
        f"{tokens:,} tokens in chunks of {chunk:,}: {counts.prefilled_tokens:,} prefilled, {counts.generated_tokens} "
        f"generated, {seconds:.0f} s; memory grew by {grown / 1e6:.0f} MB, keys and values {floor / 1e6:.0f} MB by "
        f"formula, the rest {(grown - floor) / 1e6:.0f} MB"
    )
    return line, grown - floor


def _generate(model: "MiMo", tokens: int, chunk: int) -> "Engine":
    """Run one request of so many tokens, answer included; return the engine."""
    from envfarm.model.engine.engine import Engine
    from envfarm.model.engine.limits import EngineLimits
    from envfarm.model.engine.request import Request, Sampling

    limits = EngineLimits(
        running=1, kept_conversations=0, capacity_tokens=tokens, context_tokens=tokens, chunk_tokens=chunk
    )
    engine = Engine(model, limits, lambda _: b"x")
    prompt = tuple(place * place % 64 for place in range(tokens - _ANSWER))
    engine.submit(Request(prompt=prompt, most_tokens=_ANSWER, sampling=Sampling(temperature=0)))
    while engine.has_work:
        engine.step()
    return engine


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
