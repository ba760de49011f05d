"""Where a run computes, and in which numbers."""

import torch

from envfarm.errors import SettingsError

DEVICES = ("auto", "cpu", "cuda")


def choose_device(wanted: str) -> str:
    """Return `cpu` or `cuda`.

    Raises:
        SettingsError: The name is unknown, or there is no such device.
    """
    if wanted not in DEVICES:
        message = f"device: {wanted!r} is none of {', '.join(DEVICES)}"
        raise SettingsError(message)
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        message = "device: there is no cuda device here; take cpu"
        raise SettingsError(message)
    return "cuda" if has_cuda and wanted != "cpu" else "cpu"


def choose_dtype(device: str) -> str:
    """Return what products are computed in: bfloat16 where the device multiplies it faster than float32."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    capabilities = torch.cpu.get_capabilities()
    return "bfloat16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "float32"
