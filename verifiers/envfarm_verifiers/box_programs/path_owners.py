"""Whose a file is, and which paths may be written, as the audit hook and the report see it.

Standard library only, CPython 3.6 and newer.
"""

import os
import sys
import tempfile

from place_files import compile_patterns

WORKSPACE = os.environ.get("ENVFARM_WORKSPACE", "/workspace")
TEST, SUBMITTED, TRUSTED, GENERATED = range(4)
"""Whose a file is; generated code has no file."""


def text_path(path):
    """Return a path as text; None for a descriptor or what is no path."""
    if isinstance(path, int) or path is None:
        return None
    text = os.fsdecode(path)
    return str.__str__(text)


class Paths:
    """Knows which paths may be written, and whose a file is."""

    def __init__(self, sources):
        self.tests = compile_patterns(sources)
        self.roots = tuple(sorted(_trusted_roots()))
        temporary = [tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/null", "/dev/tty", "/dev/shm"]  # noqa: S108
        self.temporary = tuple(os.path.realpath(place) + os.sep for place in temporary)
        self.owners = {}

    def owner_of(self, name):
        """Return whose code it is that has this file name."""
        if name.startswith("<"):
            return TRUSTED if name.startswith("<frozen ") else GENERATED
        path = os.path.normpath(os.path.join(WORKSPACE, name))
        if path.startswith(WORKSPACE + os.sep):
            return TEST if self.tests.match(path[len(WORKSPACE) + 1 :]) else SUBMITTED
        return TRUSTED if path.startswith(self.roots) else SUBMITTED

    def forbidden(self, path, descriptor=-1, follows=True):  # noqa: FBT002 -- internal
        """Return the path where it may not be written: of the tests, or outside workspace and temporary folders."""
        text = text_path(path)
        if text is None:
            return None
        if type(descriptor) is int and descriptor >= 0:
            text = os.path.join(os.readlink("/proc/self/fd/{}".format(descriptor)), text)
        if follows:
            real = os.path.realpath(text)
        else:
            folder, name = os.path.split(os.path.abspath(text))
            real = os.path.join(os.path.realpath(folder), name)
        if real.startswith(WORKSPACE + os.sep):
            return real if self.tests.match(real[len(WORKSPACE) + 1 :]) else None
        return None if (real + os.sep).startswith(self.temporary) else real


def _trusted_roots():
    """Return the folders of interpreter, environment and these programs, each with its real place."""
    here = os.path.dirname(os.path.abspath(__file__))
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.__file__), here}
    places.update(os.path.abspath(entry) for entry in sys.path if entry)
    places.update([os.path.realpath(place) for place in places])
    inside = WORKSPACE + os.sep
    return {place.rstrip(os.sep) + os.sep for place in places if not (place + os.sep).startswith(inside)} - {os.sep}
