"""Which of the shipped libraries this machine can run, found without torch.

There is one for each kind of processor. The choice follows from what the processor says it can do; numbers are the
same on all of them, to the last bit.
"""

import ctypes
import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parent / "source"
_FOLDER = Path(__file__).parent / "libraries"
_PROCESSOR = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Kind:
    """A kind of processor.

    Attributes:
        name: Of the library as well.
        machine: As `platform.machine` names it.
        needs: What /proc/cpuinfo has to list.
        target: What the compiler is told.
    """

    name: str
    machine: str
    needs: frozenset[str]
    target: tuple[str, ...]


_AVX2 = frozenset({"avx2", "fma"})
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}


def _x86(name: str, needs: frozenset[str]) -> Kind:
    features = "+".join(["x86_64", *sorted(needs)])
    return Kind(name, "x86_64", needs, ("-target", "x86_64-linux-gnu.2.17", f"-mcpu={features}"))


KINDS = (
    _x86("avx512", _AVX512),
    _x86("avx2", _AVX2),
    Kind("neon", "aarch64", frozenset(), ("-target", "aarch64-linux-gnu.2.17")),
)
"""The best first."""


def library_path(kind: Kind) -> Path:
    """Return where a kind's library lies."""
    return _FOLDER / f"kernels-{kind.name}.so"


def usable_kinds() -> list[Kind]:
    """Return the kinds that this machine can run, the best first; none on anything but Linux."""
    if not sys.platform.startswith("linux"):
        return []
    features = _features()
    return [kind for kind in KINDS if kind.machine == platform.machine() and kind.needs <= features]


@cache
def open_library(kind: Kind) -> ctypes.CDLL:
    """Return a kind's library with its functions' signatures.

    Raises:
        OSError: It is not there, or this machine's C library is older than glibc 2.17 or another one.
    """
    library = ctypes.CDLL(str(library_path(kind)))
    pointer, whole = ctypes.c_void_p, ctypes.c_int64
    library.envfarm_structure_bytes.argtypes = [whole]
    library.envfarm_structure_bytes.restype = whole
    library.envfarm_scratch_floats.argtypes = [pointer, whole, whole]
    library.envfarm_scratch_floats.restype = whole
    library.envfarm_forward.argtypes = [pointer, pointer]
    library.envfarm_forward.restype = None
    library.envfarm_predict_further.argtypes = [pointer, whole, pointer]
    library.envfarm_predict_further.restype = None
    library.envfarm_head.argtypes = [pointer, pointer]
    library.envfarm_head.restype = None
    library.envfarm_chain_floats.argtypes = [pointer, whole, whole, whole]
    library.envfarm_chain_floats.restype = whole
    library.envfarm_guess_all.argtypes = [pointer, whole, pointer, pointer]
    library.envfarm_guess_all.restype = None
    _sign_training(library)
    return library


def _sign_training(library: ctypes.CDLL) -> None:
    pointer, whole = ctypes.c_void_p, ctypes.c_int64
    for name in ("norm", "norm_gradient", "gate", "spread", "collect", "surprise"):
        function = getattr(library, f"envfarm_{name}")
        function.argtypes = [pointer, whole, whole]
        function.restype = None
    library.envfarm_arrange.argtypes = [pointer, whole, whole, whole, pointer, pointer, pointer]
    library.envfarm_arrange.restype = None
    library.envfarm_lesson.argtypes = [pointer, whole, whole, pointer]
    library.envfarm_lesson.restype = None
    library.envfarm_lesson_floats.argtypes = [pointer]
    library.envfarm_lesson_floats.restype = whole
    library.envfarm_work.argtypes = [pointer]
    library.envfarm_work.restype = None


@cache
def _features() -> frozenset[str]:
    """Return what all processors of this machine can do."""
    try:
        text = _PROCESSOR.read_text(errors="replace")
    except OSError:
        return frozenset()
    lines = [line.partition(":")[2].split() for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return frozenset.intersection(*map(frozenset, lines)) if lines else frozenset()
