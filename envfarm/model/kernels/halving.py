"""Finds out whether a weight can be kept in half of the memory without losing anything.

Weights of a checkpoint were stored in bfloat16, or in FP8 with a factor for each tile of 128 by 128. Loaded as float32
they are still those numbers: a tile whose highest number is that of FP8's range gives its factor away. What the kernels
then keep, bfloat16 and factors, stands for the same numbers exactly; what does not is kept in float32.
"""

import torch
from torch import Tensor
from torch.nn import functional

from envfarm.model.fp8 import FP8

TILE = 128
_FP8_HIGHEST = 448.0


def halve(weight_O_D: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return bfloat16 [O, D] and factors [O, tiles] whose products are the weight, to the last bit; None if none are.

    A factor belongs to one output and `TILE` inputs. Rows of tiles begin at the first output.
    """
    outputs, inputs = weight_O_D.shape
    tiles = -(-inputs // TILE)
    plain = weight_O_D.bfloat16()
    if torch.equal(plain.float(), weight_O_D):
        return plain, torch.ones(outputs, tiles)
    padded = functional.pad(weight_O_D, (0, tiles * TILE - inputs, 0, -outputs % TILE))
    tiled = padded.view(-1, TILE, tiles, TILE)
    guess = tiled.abs().amax((1, 3), keepdim=True) / _FP8_HIGHEST
    guess = torch.where(guess == 0, 1.0, guess)
    above, below = (torch.nextafter(guess, torch.full_like(guess, limit)) for limit in (torch.inf, 0.0))
    factor, numbers = torch.zeros_like(guess), torch.zeros_like(tiled)
    found = torch.zeros_like(guess, dtype=torch.bool)
    for candidate in (guess, above, below):  # dividing what was multiplied may miss by one place
        quantised = (tiled / candidate).to(FP8).float()
        right = (quantised * candidate == tiled).all(3, keepdim=True).all(1, keepdim=True) & ~found
        factor, numbers = torch.where(right, candidate, factor), torch.where(right, quantised, numbers)
        found |= right
    if not bool(found.all()):
        return None
    whole = numbers.reshape(padded.shape)[:outputs, :inputs].bfloat16()
    return whole, factor[:, 0, :, 0].repeat_interleave(TILE, 0)[:outputs]
