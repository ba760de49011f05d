"""Small git histories of a real little project, made in milliseconds: the same commit ids every time."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

START = 1_700_000_000
DAY = 86_400
PYPROJECT = f"""[project]
name = "tiny"
version = "1"
requires-python = "=={sys.version_info.major}.{sys.version_info.minor}.*"
[project.optional-dependencies]
test = ["pytest"]
[build-system]
requires = ["no-such-build-tool"]
build-backend = "none"
"""
"""The build fails at once, so that nothing is downloaded for it: a path file takes the project's place."""


def git(folder: Path, *words: str, when: int = START) -> str:
    """Run git as a person who is the same everywhere."""
    variables = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "GIT_CONFIG_NOSYSTEM": "1"}
    variables |= {"GIT_AUTHOR_DATE": f"{when} +0000", "GIT_COMMITTER_DATE": f"{when} +0000"}
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    who += ["-c", "protocol.file.allow=always"]
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, capture_output=True, check=True, env=variables, text=True, errors="replace"
    )
    return done.stdout.strip()


def commit(folder: Path, message: str, files: Mapping[str, str], *, when: int = START) -> str:
    """Commit some files and return the commit's id."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    git(folder, "add", "-A", when=when)
    git(folder, "commit", "-q", "--allow-empty", "-m", message, when=when)
    return git(folder, "rev-parse", "HEAD")


def module(fixed: int) -> str:
    """Return a module of which the first `fixed` functions are right."""
    return "".join(f"def f{n}(x):\n    return x {'+' if n < fixed else '-'} {n + 1}\n" for n in range(4))


def tests(count: int) -> str:
    """Return tests of the first `count` functions."""
    lines = [f"def test_f{n}():\n    assert f{n}(1) == {n + 2}\n" for n in range(count)]
    return "from tiny import *\n\ndef test_there():\n    assert f0\n\n" + "\n".join(lines)


def make_history(folder: Path, *, fixes: int = 1) -> Path:
    """Make a repository of a project whose last `fixes` commits each mend a function and add its test."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    files = {"pyproject.toml": PYPROJECT, "src/tiny/__init__.py": module(0), "tests/test_tiny.py": tests(0)}
    commit(folder, "begin", files)
    for number in range(1, fixes + 1):
        changed = {"src/tiny/__init__.py": module(number), "tests/test_tiny.py": tests(number)}
        commit(folder, f"Mend f{number - 1}\n\nIt subtracted.", changed, when=START + number * DAY)
    return folder
