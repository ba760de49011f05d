"""Finds sandboxes, verifiers and policies by entry-point name, on demand: nothing is imported before it is asked for.

Built-ins register like everybody else: group ``envfarm.sandboxes`` names functions that open a provider, group
``envfarm.verifiers`` names verifier classes.
"""

import difflib
from importlib.metadata import entry_points
from typing import Any

from envfarm.errors import UnknownPluginError

SANDBOXES = "envfarm.sandboxes"
VERIFIERS = "envfarm.verifiers"


def installed_plugins(group: str) -> tuple[str, ...]:
    """Return the names that are installed in a group, sorted."""
    return tuple(sorted(entry_points(group=group).names))


def load_plugin(group: str, name: str) -> Any:
    """Return what the entry point names.

    Raises:
        UnknownPluginError: No installed package registers the name, or what it registers cannot be imported.
    """
    kind = group.rsplit(".", 1)[-1]
    found = entry_points(group=group, name=name)
    if not found:
        names = installed_plugins(group)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"installed are: {', '.join(names) or 'none'}"
        message = f"no plug-in {name!r} among {kind}: {hint}"
        raise UnknownPluginError(message)
    try:
        return next(iter(found)).load()
    except (ImportError, AttributeError) as error:
        message = f"the plug-in {name!r} among {kind} cannot be loaded ({error}): reinstall the package that brings it"
        raise UnknownPluginError(message) from error
