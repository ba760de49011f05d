"""Compiles sources to byte code that holds no time and is the same on any day, in any folder.

The interpreter itself compiles, one file after the other in the order given: byte code depends on what the process
interned before, on the seed of hashes, and before 3.11 on the addresses of constants in sets, so all three are pinned.
No code of the sources is run.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from envfarm.errors import ImageBuildError

_ADDRESSES_STAY = 0x0040000
"""ADDR_NO_RANDOMIZE of personality(2)."""
_SECONDS = 900
_SAME_ADDRESSES = (
    "import ctypes, os, sys\n"
    f"ctypes.CDLL(None).personality({_ADDRESSES_STAY})\n"  # where it is not allowed, all else is pinned still
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)
_COMPILE = """\
import importlib.util, json, marshal, sys
sys.setrecursionlimit(10000)
out = sys.stdout.buffer
out.write(sys.implementation.cache_tag.encode() + b"\\n")
for source, shown in json.load(sys.stdin):
    try:
        with open(source, "rb") as file:
            text = file.read()
        code = compile(text, shown, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        out.write((0).to_bytes(8, "little"))
        continue
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(text)
    made = head + marshal.dumps(code)
    out.write(len(made).to_bytes(8, "little") + made)
"""
"""Flag 1: by hash, which is not checked."""
_OLDEST = (3, 7)


def compile_sources(executable: str, minor: str, sources: Mapping[str, Path]) -> dict[str, bytes]:
    """Return byte code by the path at which an import looks for it; what is no valid source has none.

    Args:
        executable: The interpreter.
        minor: Its version, such as ``3.11``.
        sources: Files to compile, by their absolute path in the image.

    Raises:
        ImageBuildError: The interpreter fails.
    """
    if tuple(int(part) for part in minor.split(".")) < _OLDEST or not sources:
        return {}
    ordered = sorted(sources)
    asked = json.dumps([[str(sources[path]), path] for path in ordered]).encode()
    flags = ("-s", "-S", "-B", "-W", "ignore")  # not -I, which would not hear of the seed
    run = [sys.executable, "-I", "-S", "-c", _SAME_ADDRESSES, executable, *flags, "-c", _COMPILE]
    environment = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        run, input=asked, capture_output=True, check=False, env=environment, cwd="/", timeout=_SECONDS
    )
    tag, _, rest = done.stdout.partition(b"\n")
    if done.returncode != 0 or not tag:
        told = " ".join(done.stderr.decode(errors="replace").split())[-400:]
        message = f"{executable} could not compile the sources of an image ({done.returncode}): {told}"
        raise ImageBuildError(message)
    compiled: dict[str, bytes] = {}
    position = 0
    for path in ordered:
        size = int.from_bytes(rest[position : position + 8], "little")
        position += 8
        if size:
            folder, _, name = path.rpartition("/")
            target = f"{folder}/__pycache__/{name.removesuffix('.py')}.{tag.decode()}.pyc"
            compiled[target] = rest[position : position + size]
            position += size
    return compiled
