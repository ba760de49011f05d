"""What a service of a docker-compose file mounts: volumes of its group, places in memory, files of the task. PURE."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envfarm.foreign.compose_values import list_of, mapping_of, text_of, tmpfs_of, variables_of_file
from envfarm.sandbox.services import ReadOnlyFiles, VolumeMount

LOG_FOLDERS = "/harbor/logs"
"""Stands for folders of a machine with Harbor, which old files mount into `main`."""
_KNOWN = frozenset({"type", "source", "target", "read_only", "volume", "bind", "tmpfs", "consistency"})
_KNOWN_INSIDE = {"volume": {"nocopy"}, "bind": {"create_host_path", "selinux"}, "tmpfs": {"size", "mode"}}


@dataclass(frozen=True, kw_only=True)
class TaskFiles:
    """The files that a compose file may name.

    Attributes:
        told_as: The compose file, relative to the task.
        name: The folder they are in, relative to the task.
        root: Absolute path that stands for that folder in the resolved file.
        content: By path below it.
        programs: Those with the executable bit.
    """

    told_as: str
    name: str
    root: str
    content: Mapping[str, bytes] = field(repr=False)
    programs: frozenset[str] = frozenset()

    def inside(self, value: Any) -> str:
        """Return the path below the folder of a path of the resolved file; empty for the folder itself.

        Raises:
            ValueError: It lies elsewhere.
        """
        path = posixpath.normpath(posixpath.join(self.root, text_of(value)))
        if path != self.root and not path.startswith(f"{self.root}/"):
            message = f"is {text_of(value)[:80]!r}, which is not in {self.name}/"
            raise ValueError(message)
        return path[len(self.root) + 1 :]

    def variables(self, value: Any) -> dict[str, str]:
        """Return the variables of the files that ``env_file`` still names.

        Raises:
            ValueError: One is none of the task's, or no list of variables.
        """
        found: dict[str, str] = {}
        for entry in list_of(value):
            path = self.inside(entry.get("path") if isinstance(entry, dict) else entry)
            if path in self.content:
                found |= variables_of_file(self.content[path].decode("utf-8", "replace"))
            elif not isinstance(entry, dict) or entry.get("required", True):
                message = f"names {path[:80]!r}, which is no file of {self.name}/"
                raise ValueError(message)
        return found

    def shown_at(self, source: str, target: str) -> ReadOnlyFiles:
        """Return a file or a folder as it is shown at a place.

        Raises:
            ValueError: It is none of the task's.
        """
        path = self.inside(source)
        if path in self.content:
            return ReadOnlyFiles(
                target=target,
                content={"": self.content[path]},
                programs=frozenset({""} if path in self.programs else ()),
            )
        prefix = f"{path}/" if path else ""
        content = {name[len(prefix) :]: text for name, text in self.content.items() if name.startswith(prefix)}
        if not content:
            message = f"mounts {path[:80]!r}, which is no file of {self.name}/"
            raise ValueError(message)
        programs = frozenset(name[len(prefix) :] for name in self.programs if name.startswith(prefix))
        return ReadOnlyFiles(target=target, content=content, programs=programs)


@dataclass(frozen=True, kw_only=True)
class Mounts:
    """What a service mounts.

    Attributes:
        volumes: Volumes of the group.
        files: Files of the task.
        tmpfs: Places in memory.
    """

    volumes: tuple[VolumeMount, ...] = ()
    files: tuple[ReadOnlyFiles, ...] = ()
    tmpfs: tuple[str, ...] = ()


def mounts_of(value: Any, files: TaskFiles, *, is_main: bool) -> Mounts:
    """Return what a service mounts.

    Raises:
        ValueError: It is not given: folders of this machine, or files of the task to write.
    """
    volumes, shown, tmpfs = [], [], []
    for entry in list_of(value):
        kind, source, target, is_read_only, options = _entry(entry)
        if not target.startswith("/") or ":" in target or ".." in target.split("/"):
            message = f"mounts something at {target[:80]!r}, which is no absolute path"
            raise ValueError(message)
        if kind == "tmpfs":
            tmpfs.append(tmpfs_of(":".join([target, *([options] if options else [])])))
        elif kind == "volume":
            volumes.append(VolumeMount(volume=source, target=target, is_read_only=is_read_only))
        elif is_main and source.startswith(f"{LOG_FOLDERS}/"):
            continue
        elif not is_read_only:
            files.inside(source)
            message = f"can write to {source.removeprefix(files.root + '/')[:80]!r}: mount it with :ro"
            raise ValueError(message)
        else:
            shown.append(files.shown_at(source, target))
    return Mounts(volumes=tuple(volumes), files=tuple(shown), tmpfs=tuple(tmpfs))


def _entry(entry: Any) -> tuple[str, str, str, bool, str]:
    """Return kind, source, target, whether it is read-only, and a tmpfs's options."""
    if not isinstance(entry, dict):
        parts = text_of(entry).split(":")
        source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
        flags = parts[2].split(",") if len(parts) > 2 else []  # noqa: PLR2004 -- SOURCE:TARGET:FLAGS
        if len(parts) > 3 or set(flags) - {"ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent"}:  # noqa: PLR2004 -- as above
            message = f"has {text_of(entry)[:80]!r}, which is not given here"
            raise ValueError(message)
        kind = "bind" if source.startswith(("/", ".", "~")) else "volume"
        return kind, source, target, "ro" in flags, ""
    kind = text_of(entry.get("type") or "volume")
    known = kind in _KNOWN_INSIDE
    inside = {
        f"{name}.{key}" for name, keys in _KNOWN_INSIDE.items() for key in mapping_of(entry.get(name)).keys() - keys
    }
    unknown = sorted((entry.keys() - _KNOWN) | inside)
    if not known or unknown:
        message = f"has {unknown[0] if known else kind}, which is not given here"
        raise ValueError(message)
    options = mapping_of(entry.get("tmpfs"))
    told = [f"size={text_of(options['size'])}"] if options.get("size") else []
    told += [f"mode={int(options['mode']):o}"] if isinstance(options.get("mode"), int) else []
    source = text_of(entry.get("source") or "")
    return kind, source, text_of(entry.get("target")), entry.get("read_only") is True, ",".join(told)
