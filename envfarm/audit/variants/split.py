"""Functions whose body is a private function of the module, which they call with the same arguments. PURE."""

from collections.abc import Sequence

from envfarm.audit.variants.emission import body_edit, emit
from envfarm.audit.variants.functions import can_be_wrapped, code_of, needs_its_class
from envfarm.audit.variants.source import Edit, Function, Place, SourceFile
from envfarm.python_trees import parse_tree


def split_functions(source: SourceFile, places: Sequence[Place]) -> str | None:
    """Return the module's text with the bodies moved out; None where none can be."""
    edits: list[Edit] = []
    taken: list[str] = []
    for place in places:
        if _can_be_split(source, place):
            name = source.free_name(f"_{place.node.name.strip('_') or 'unnamed'}_body", taken)
            taken.append(name)
            edits += _split(source, place, name)
    return source.splice(_merged(edits)) if edits else None


def _can_be_split(source: SourceFile, place: Place) -> bool:
    starts_a_line = not source.before(source.start(place.top))
    return starts_a_line and can_be_wrapped(place) and not (place.owners and needs_its_class(place.node))


def _split(source: SourceFile, place: Place, name: str) -> list[Edit]:
    body = emit(code_of(place.node), "    ")
    call = body_edit(source, place.node, parse_tree(f"return {name}({_given(place.node)})").body)
    if body is None or call is None:
        return []
    start = source.start(place.top)
    return [Edit(start, start, f"def {name}({_taken(place.node)}):\n{body}\n\n\n"), call]


def _merged(edits: Sequence[Edit]) -> list[Edit]:
    """Return the edits with those at one place in their order."""
    merged: dict[tuple[int, int], str] = {}
    for edit in edits:
        merged[edit.start, edit.end] = merged.get((edit.start, edit.end), "") + edit.text
    return [Edit(start, end, text) for (start, end), text in merged.items()]


def _taken(node: Function) -> str:
    """Return the parameters of the private function: the same names, without defaults."""
    arguments = node.args
    parts = [argument.arg for argument in arguments.posonlyargs]
    parts += ["/"] if parts else []
    parts += [argument.arg for argument in arguments.args]
    if arguments.vararg is not None:
        parts.append(f"*{arguments.vararg.arg}")
    elif arguments.kwonlyargs:
        parts.append("*")
    parts += [argument.arg for argument in arguments.kwonlyargs]
    return ", ".join([*parts, *([f"**{arguments.kwarg.arg}"] if arguments.kwarg is not None else [])])


def _given(node: Function) -> str:
    """Return the arguments that the private function is called with."""
    arguments = node.args
    parts = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    parts += [f"*{arguments.vararg.arg}"] if arguments.vararg is not None else []
    parts += [f"{argument.arg}={argument.arg}" for argument in arguments.kwonlyargs]
    return ", ".join([*parts, *([f"**{arguments.kwarg.arg}"] if arguments.kwarg is not None else [])])
