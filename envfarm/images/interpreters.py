"""Finds CPython interpreters on this machine, and brings one where it is missing.

Looked for: python3.X on PATH and in /usr/bin, pyenv, asdf, and those that uv has brought. A version is read from where
an interpreter lies where that tells it; else the program is asked once.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from envfarm.errors import MissingToolError
from envfarm.records.image import Folder

_VERSION_FOLDER = re.compile(r"(?:cpython-)?(\d+)\.(\d+)\.(\d+)(?:-.*)?")
_PROGRAM = re.compile(r"python3\.\d+")
_SYSTEM_PREFIXES = ("/usr/", "/bin/", "/lib/")


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """One CPython.

    Attributes:
        minor: Such as ``3.11``.
        full: Such as ``3.11.7``.
        executable: Absolute path, links resolved.
        prefix: Folder that holds all of it; the path of nothing that a sandbox sees anyway.
    """

    minor: str
    full: str
    executable: str
    prefix: str

    def folders(self) -> tuple[Folder, ...]:
        """Return what a sandbox has to mount to run it: nothing for the system's own."""
        if self.executable.startswith(_SYSTEM_PREFIXES):
            return ()
        return (Folder(source=self.prefix, target=self.prefix),)


def find_interpreters(environ: Mapping[str, str] | None = None) -> dict[str, Interpreter]:
    """Return the newest interpreter of each minor version, by minor version."""
    found: dict[str, Interpreter] = {}
    for path in _programs(os.environ if environ is None else environ):
        interpreter = _read_interpreter(path)
        if interpreter is None:
            continue
        known = found.get(interpreter.minor)
        if known is None or _release(interpreter.full) > _release(known.full):
            found[interpreter.minor] = interpreter
    return dict(sorted(found.items(), key=lambda item: _release(item[0])))


def interpreter_at(program: Path) -> Interpreter | None:
    """Return the interpreter that a program of an environment leads to; None where there is none any more."""
    try:
        executable = program.resolve(strict=True)
    except OSError:
        return None
    return _read_interpreter(executable)


def bring_interpreter(minor: str, *, cache_folder: Path) -> Interpreter:
    """Return an interpreter of the minor version, brought by uv into the cache when this machine has none.

    Raises:
        MissingToolError: It is not here and cannot be brought.
    """
    known = find_interpreters().get(minor) or _in_folder(cache_folder / "interpreters", minor)
    if known is not None:
        return known
    from uv import find_uv_bin

    folder = cache_folder / "interpreters"
    environment = os.environ | {"UV_PYTHON_INSTALL_DIR": str(folder), "UV_PYTHON_INSTALL_BIN": "0"}
    done = subprocess.run(
        [find_uv_bin(), "python", "install", minor], env=environment, capture_output=True, text=True, check=False
    )
    brought = _in_folder(folder, minor) if done.returncode == 0 else None
    if brought is None:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        message = (
            f"Python {minor} is not here and could not be brought ({lines[-1]}): install it, with pyenv for instance"
        )
        raise MissingToolError(message)
    return brought


def _in_folder(folder: Path, minor: str) -> Interpreter | None:
    for path in sorted(folder.glob(f"cpython-{minor}.*/bin/python{minor}"), reverse=True):
        interpreter = _read_interpreter(path)
        if interpreter is not None:
            return interpreter
    return None


def _programs(environ: Mapping[str, str]) -> Iterator[Path]:
    home = Path(environ.get("HOME", "/nonexistent"))
    roots = [
        Path(environ.get("PYENV_ROOT", home / ".pyenv")) / "versions",
        Path(environ.get("ASDF_DATA_DIR", home / ".asdf")) / "installs" / "python",
        Path(environ.get("UV_PYTHON_INSTALL_DIR", home / ".local" / "share" / "uv" / "python")),
    ]
    for root in roots:
        yield from sorted(root.glob("*/bin/python3.*"))
    for folder in dict.fromkeys([*environ.get("PATH", "").split(os.pathsep), "/usr/local/bin", "/usr/bin"]):
        if folder and "shims" not in folder:
            yield from sorted(Path(folder).glob("python3.*"))


@cache
def _read_interpreter(path: Path) -> Interpreter | None:
    if not _PROGRAM.fullmatch(path.name) or not os.access(path, os.X_OK):
        return None
    executable = path.resolve()
    if executable.name.endswith("t"):  # free-threaded: the wheels that locks name are not for it
        return None
    prefix = executable.parent.parent
    match = _VERSION_FOLDER.fullmatch(prefix.name)
    if match and path.name == f"python{match[1]}.{match[2]}":
        full = ".".join(match.groups())
    else:
        program = "import platform; print(platform.python_version(), platform.python_implementation())"
        try:
            asked = subprocess.run(
                [executable, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        full, implementation = asked.stdout.split()
        if implementation != "CPython" or not re.fullmatch(r"\d+\.\d+\.\d+", full):
            return None
    minor = full.rsplit(".", 1)[0]
    return Interpreter(minor=minor, full=full, executable=str(executable), prefix=str(prefix))


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
