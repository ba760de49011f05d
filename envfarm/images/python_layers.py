"""The layers of an interpreter and of a locked environment: which files of this machine, and as what.

In an image the interpreter lies at `INTERPRETER`, wherever it lies here; what looks for it at its old place (the run
path of a shared build) finds a link there. Left out are what no task needs and what would differ from one day to the
next: tests of the standard library, static libraries, packages that somebody installed into it, byte code with times.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from envfarm.images.byte_code import compile_sources
from envfarm.images.interpreters import Interpreter
from envfarm.images.layer_archive import LayerEntry, giver
from envfarm.sandbox.contract import ENVIRONMENT

INTERPRETER = "/opt/python"
_RULES = "2"
"""Changes with what is left out or rewritten here."""
_NO_PART = re.compile(
    r"(__pycache__|share|lib/python[\d.]+/(site-packages|test|idlelib/idle_test|turtledemo|lib2to3/tests|unittest/test"
    r"|distutils/tests|ctypes/test|sqlite3/test|tkinter/test|config-[^/]+))(/|\Z)|.*\.(a|py[co])\Z"
)
_PROGRAM = re.compile(r"bin/python[\d.]*\Z")
_INSTALLERS = re.compile(r"(\.lock|\.gitignore|CACHEDIR\.TAG)\Z|.*(\.py[co]|/uv_cache\.json)\Z|(.*/)?__pycache__(/|\Z)")
_MAKERS_LINE = re.compile(rb"^uv = .*\n", re.MULTILINE)


def interpreter_key(interpreter: Interpreter) -> str:
    """Return what names an interpreter's layer in the cache: its version, place and files' facts."""
    return f"python-{interpreter.full}-{_facts_of(Path(interpreter.prefix))}"


def environment_key(folder: Path, interpreter: Interpreter) -> str:
    """Return what names an environment's layer in the cache."""
    return f"environment-{interpreter.full}-{_facts_of(folder)}"


def interpreter_entries(interpreter: Interpreter) -> list[LayerEntry]:
    """Return the files of an interpreter, at `INTERPRETER`, with byte code of its own library.

    Raises:
        ImageBuildError: It cannot compile its library.
        OSError: It cannot be read.
    """
    prefix = Path(interpreter.prefix)
    target = INTERPRETER.lstrip("/")
    entries, sources = [], {}
    for path, name in _walk(prefix):
        if _NO_PART.match(name) or "/__pycache__" in name or (name.startswith("bin/") and not _PROGRAM.match(name)):
            continue
        entries.append(_entry(path, f"{target}/{name}", interpreter))
        if name.startswith("lib/python") and name.endswith(".py") and not path.is_symlink():
            sources[f"{INTERPRETER}/{name}"] = path
    entries += _compiled(interpreter, sources)
    if looks_at_its_place(Path(interpreter.executable).read_bytes(), interpreter.prefix):
        entries.append(LayerEntry(path=interpreter.prefix.lstrip("/"), link_target=INTERPRETER))
    return entries


def looks_at_its_place(program: bytes, prefix: str) -> bool:
    """Say whether a program finds its library by an absolute path below its prefix."""
    return f"{prefix}/lib\0".encode() in program


def environment_entries(folder: Path, interpreter: Interpreter) -> list[LayerEntry]:
    """Return the files of an installed environment, whose programs lead to the image's interpreter.

    Raises:
        ImageBuildError: Its sources cannot be compiled.
        OSError: It cannot be read.
    """
    root = folder.resolve()
    entries, sources = [], {}
    for path, name in _walk(root):
        if _INSTALLERS.match(name):
            continue
        if name == "pyvenv.cfg":
            config = _MAKERS_LINE.sub(b"", _moved(path.read_bytes(), interpreter))
            entries.append(LayerEntry(path=f"{ENVIRONMENT}/{name}".lstrip("/"), mode=0o644, read=giver(config)))
            continue
        entries.append(_entry(path, f"{ENVIRONMENT}/{name}".lstrip("/"), interpreter))
        if name.startswith("lib/") and name.endswith(".py") and not path.is_symlink():
            sources[f"{ENVIRONMENT}/{name}"] = path
    return entries + _compiled(interpreter, sources)


def _compiled(interpreter: Interpreter, sources: dict[str, Path]) -> list[LayerEntry]:
    compiled = compile_sources(interpreter.executable, interpreter.minor, sources)
    return [LayerEntry(path=path.lstrip("/"), mode=0o644, read=giver(content)) for path, content in compiled.items()]


def _entry(path: Path, target: str, interpreter: Interpreter) -> LayerEntry:
    facts = path.lstat()
    if stat.S_ISLNK(facts.st_mode):
        return LayerEntry(path=target, link_target=_moved(os.fsencode(path.readlink()), interpreter).decode())
    if stat.S_ISDIR(facts.st_mode):
        return LayerEntry(path=target)
    return LayerEntry(path=target, mode=0o755 if facts.st_mode & 0o100 else 0o644, read=path.read_bytes)


def _moved(text: bytes, interpreter: Interpreter) -> bytes:
    """Return a text with the interpreter's place in the image; the system's own stays where it is."""
    if not interpreter.folders():
        return text
    return text.replace(interpreter.prefix.encode(), INTERPRETER.encode())


def _walk(root: Path, below: str = "") -> Iterator[tuple[Path, str]]:
    """Yield folders, files and links below a folder with their relative paths, sorted; nothing is followed."""
    with os.scandir(root / below) as found:
        items = sorted(found, key=lambda item: item.name)
    for item in items:
        name = f"{below}{item.name}"
        if item.is_symlink() or item.is_file() or item.is_dir():
            yield root / name, name
        if item.is_dir(follow_symlinks=False):
            yield from _walk(root, f"{name}/")


def _facts_of(folder: Path) -> str:
    digest = hashlib.sha256(f"{_RULES}\n{folder.resolve()}\n".encode())
    for path, name in _walk(folder.resolve()):
        facts = path.lstat()
        line = f"{name}\0{facts.st_mode}\0{facts.st_size}\0{facts.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape") if "__pycache__" not in name else b"")
    return digest.hexdigest()[:16]
