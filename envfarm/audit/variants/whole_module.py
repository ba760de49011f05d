"""A module as a tool writes it: every line moved, every comment lost. PURE."""

import ast
from collections.abc import Sequence

from envfarm.audit.variants.emission import unparse
from envfarm.audit.variants.source import Place, SourceFile, parse


def written_again(source: SourceFile, _places: Sequence[Place]) -> str | None:
    """Return the module's text as `ast.unparse` writes it; None where that would not mean the same."""
    text = unparse(source.tree) if source.tree.body else None
    tree = parse(text) if text is not None else None
    if text is None or tree is None or ast.dump(tree) != ast.dump(source.tree):
        return None
    head = source.text.split("\n", 1)[0] + "\n" if source.text.startswith("#!") else ""
    if source.encoding not in {"utf-8", "utf-8-sig"}:
        head += f"# -*- coding: {source.encoding} -*-\n"
    return f"{head}{text}\n"
