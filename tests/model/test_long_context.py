"""256 K of context in bounded memory: a whole prompt of 32 K, and the last chunk of one after 255 K tokens."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench/long_context.py"
PROGRAM = """
import resource, torch
from envfarm.model.config import MiMoConfig
from envfarm.model.engine.engine import Engine
from envfarm.model.engine.generation import RoutingRecord
from envfarm.model.engine.limits import EngineLimits
from envfarm.model.engine.request import Request
from envfarm.model.engine.seating import Kept
from envfarm.model.mimo import MiMo, initialise

torch.set_num_threads(1)
config = MiMoConfig(
    vocab_size=64, hidden_size=16, intermediate_size=16, moe_intermediate_size=8, num_attention_heads=2,
    num_key_value_heads=1, head_dim=12, v_head_dim=8, swa_num_attention_heads=2, swa_num_key_value_heads=2,
    swa_head_dim=12, swa_v_head_dim=8, hybrid_layer_pattern=(0, 1, 1), moe_layer_freq=(0, 1, 1),
    n_routed_experts=4, num_experts_per_tok=2,
)
whole, last = 262_144, 520
model = MiMo(config)
initialise(model, 0)
limits = EngineLimits(running=2, kept_conversations=1, capacity_tokens=whole + 64, context_tokens=whole, draft_tokens=3)
engine = Engine(model, limits, lambda _: b"x")

def run(request):
    engine.submit(request)
    found = []
    while engine.has_work:
        found += engine.step()
    return found[-1].usage

run(Request(prompt=(1,) * 600, most_tokens=8))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
known = tuple(range(64)) * (whole // 64)
known = known[: whole - last]
before = peak()
# Earlier turns, as if they had been computed: computing them would take minutes.
seat = engine.memory.take_seat()
engine.memory.make_room(seat, len(known))
for part in engine.memory.pool.parts(0):
    part[:, seat.blocks] = torch.randn(part[:, seat.blocks].shape)
slots = engine.memory.window.slots
for position in range(len(known) - slots, len(known)):
    engine.memory.window.positions_B_S[seat.row, position % slots] = position
seat.tokens = len(known)
engine._seating.kept["long"] = Kept(seat, list(known), RoutingRecord(), None, 0)
usage = run(Request(prompt=known + (5,) * (last - 8), most_tokens=8, conversation="long"))
assert (usage.reused_tokens, usage.prefilled_tokens, usage.generated_tokens) == (len(known), last - 8, 8), usage
assert engine.memory.pool.used_blocks == whole // 64
print(engine.memory.pool.reserved_bytes, peak() - before)
"""


def test_memory_grows_by_the_cache_and_a_little(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reserved, grown = map(int, done.stdout.split())
    assert 262_144 * (12 + 8) * 4 <= reserved < 1.1 * 262_144 * (12 + 8) * 4
    # Without slabs the chunk's mask alone would have 512 MB.
    assert grown < reserved + 250_000_000


@pytest.mark.parametrize(("tokens", "bar_bytes", "code"), [(32_768, 200_000_000, 0), (8_192, -1_000_000_000, 1)])
def test_a_long_prompt_goes_through_from_its_first_token(tokens: int, bar_bytes: int, code: int) -> None:
    """Memory beside the cache is bounded by slabs of masks; the benchmark is for longer prompts."""
    options = "--tokens", str(tokens), "--threads", "1", f"--bar-bytes={bar_bytes}"
    done = subprocess.run([sys.executable, str(BENCH), *options], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.startswith(f"{tokens:,} tokens in chunks of 512: {tokens - 8:,} prefilled, 8 generated")
