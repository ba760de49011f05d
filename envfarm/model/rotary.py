"""Partial rotary embedding: the first numbers of a head are turned by their position, the rest pass through."""

import torch
from torch import Tensor


def rotary_angles(positions_B_T: Tensor, rotary_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines, both [B, T, 1, rotary_dim / 2] in float32; padding (-1) gets some angle."""
    powers = torch.arange(0, rotary_dim, 2, dtype=torch.float32, device=positions_B_T.device) / rotary_dim
    angles = positions_B_T[..., None, None].float() * (1.0 / theta**powers)
    return angles.cos(), angles.sin()


def turn(x_B_T_H_C: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return heads turned by their positions: number i pairs with number i + rotary_dim / 2."""
    half = cos.shape[-1]
    cos, sin = cos.to(x_B_T_H_C.dtype), sin.to(x_B_T_H_C.dtype)
    first, second, rest = x_B_T_H_C[..., :half], x_B_T_H_C[..., half : 2 * half], x_B_T_H_C[..., 2 * half :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)
