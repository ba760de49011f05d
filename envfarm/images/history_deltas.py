"""Tells older versions of files by newer ones, so that a repository needs no compression to be small. PURE.

A layer of an image lies on an engine's disk as it is. Compression would make its bytes depend on zlib's version;
deltas of our own do not, and take most of it: neighbours in history differ in a few lines.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from envfarm.formats.git_pack import Delta, GitObject
from envfarm.images.delta import make_delta

_LONGEST_CHAIN = 50
"""Git's own bound: reading an old version takes as many steps."""
_SMALLEST = 64
_OID_BYTES = 20
_TREE_MODE = b"40000"


def pack_with_deltas(objects: Sequence[GitObject]) -> tuple[list[GitObject], dict[str, Delta]]:
    """Return the objects in another order, and deltas of those that have a newer version before them in it.

    Args:
        objects: All of a repository, newest commit first.
    """
    history = _History({item.oid: item for item in objects})
    trees = [_tree_of(item.content) for item in objects if item.kind == "commit"]
    for newer, older in zip([None, *trees], trees, strict=False):
        history.walk(newer, older)
    ordered = [item for item in objects if item.kind == "commit"]
    ordered += [history.objects[oid] for oid in history.bases]
    seen = {item.oid for item in ordered}
    ordered += [item for item in objects if item.oid not in seen]
    return ordered, _deltas(history)


@dataclass
class _History:
    """Objects by id, and each one's newer version at the same path in the order in which they were met."""

    objects: Mapping[str, GitObject]
    bases: dict[str, str | None] = field(default_factory=dict)

    def walk(self, newer: str | None, older: str | None) -> None:
        """Meet all that is in an older tree; what is at the same path of the newer one was met before."""
        if older is None or older in self.bases or older not in self.objects:
            return
        known = newer if newer in self.bases else None
        item = self.objects[older]
        if item.kind == "blob" or (known is not None and self.objects[known].kind != item.kind):
            self.bases[older] = known if known is not None and self.objects[known].kind == item.kind else None
            return
        self.bases[older] = known
        before = dict(_entries(self.objects[known].content)) if known is not None else {}
        for name, oid in _entries(item.content):
            self.walk(before.get(name), oid)


def _deltas(history: _History) -> dict[str, Delta]:
    deltas: dict[str, Delta] = {}
    depths: dict[str, int] = {}
    roots: dict[str, str] = {}
    for oid, newer in history.bases.items():
        content = history.objects[oid].content
        base = newer
        if base is not None and depths.get(base, 0) >= _LONGEST_CHAIN:
            base = roots[base]
        if base is None or len(content) < _SMALLEST:
            continue
        delta = make_delta(history.objects[base].content, content)
        if len(delta) < len(content) // 2:
            deltas[oid] = Delta(base, delta)
            depths[oid] = depths.get(base, 0) + 1
            roots[oid] = roots.get(base, base)
    return deltas


def _tree_of(commit: bytes) -> str | None:
    word, _, rest = commit.partition(b" ")
    return rest[: 2 * _OID_BYTES].decode("ascii", "replace") if word == b"tree" else None


def _entries(tree: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield mode and name, and the object's id."""
    position = 0
    while position < len(tree):
        end = tree.index(b"\0", position)
        yield tree[position:end], tree[end + 1 : end + 1 + _OID_BYTES].hex()
        position = end + 1 + _OID_BYTES
