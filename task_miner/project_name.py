"""What a project calls itself at a commit: the first part of a task's id, the same from every clone."""

import ast
import configparser
import re
import tomllib
from typing import Any

from envfarm.python_trees import parse_tree
from task_miner.sources.git_command import ObjectReader


def project_name_at(reader: ObjectReader, commit: str) -> str | None:
    """Return the distribution's normalised name at the commit, or None where nothing names it.

    Asked in this order: pyproject.toml (project, poetry, flit), setup.cfg, setup.py (read, never run).
    """
    for file, parse in (("pyproject.toml", _from_pyproject), ("setup.cfg", _from_cfg), ("setup.py", _from_setup)):
        content = reader.read(f"{commit}:{file}")
        name = parse(content.decode("utf-8", "replace")) if content else None
        if name and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            return normalised_name(name)
    return None


def normalised_name(name: str) -> str:
    """Return a name as the package index writes it: lower case, runs of ``-_.`` as one hyphen."""
    return re.sub(r"[-_.]+", "-", name).lower().strip("-") or "project"


def _from_pyproject(text: str) -> str | None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
    places = (("project",), ("tool", "poetry"), ("tool", "flit", "metadata"))
    for place in places:
        found: Any = document
        for key in place:
            found = found.get(key, {}) if isinstance(found, dict) else {}
        name = found.get("name") or found.get("dist-name") or found.get("module") if isinstance(found, dict) else None
        if isinstance(name, str):
            return name
    return None


def _from_cfg(text: str) -> str | None:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return None
    return parser.get("metadata", "name", fallback=None)


def _from_setup(text: str) -> str | None:
    try:
        tree = parse_tree(text)
    except (SyntaxError, ValueError):
        return None
    constants: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            constants |= {target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            for keyword in call.keywords:
                if keyword.arg == "name" and getattr(call.func, "id", getattr(call.func, "attr", "")) == "setup":
                    if isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
                        return keyword.value.value
                    if isinstance(keyword.value, ast.Name):
                        return constants.get(keyword.value.id)
    return None
