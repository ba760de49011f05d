"""What layers take follows from what whole images take."""

import os
import threading
from pathlib import Path

import pytest

from envfarm.images.built_images import BuiltImages
from envfarm.images.foreign_images import layer_sizes
from envfarm.images.layer_archive import LayerEntry, giver
from envfarm.images.layer_store import LayerStore
from envfarm.records.image import BuiltImage


@pytest.mark.parametrize(
    ("known", "sizes"),
    [
        ({("a",): 100, ("a", "b"): 120, ("a", "b", "c"): 121}, {"a": 100, "b": 20, "c": 1}),
        ({("a",): 100, ("a", "b", "c"): 121}, {"a": 100, "b": 0, "c": 21}),
        ({("a", "b", "c"): 121, ("b",): 7}, {"a": 0, "b": 0, "c": 121}),
        ({("a", "b"): 121, ("a", "b", "c"): 120}, {"a": 0, "b": 121, "c": 0}),
        ({}, {"a": 0, "b": 0, "c": 0}),
    ],
)
def test_a_layer_takes_what_it_adds(known: dict[tuple[str, ...], int], sizes: dict[str, int]) -> None:
    assert layer_sizes(("a", "b", "c"), known) == sizes


def test_a_held_layer_outlives_its_removal_from_the_store(tmp_path: Path) -> None:
    store, holder = LayerStore(tmp_path), tmp_path / "holder"
    holder.mkdir()
    entries = [LayerEntry(path="a", read=giver(b"content"))]
    made = store.ensure("key", lambda: entries, holder)
    (stored,) = store.stored()
    assert (stored.facts, stored.path.parent) == (made.facts, tmp_path / "layers")
    again = store.ensure("key", list, holder)
    assert again.facts == made.facts
    stored.path.unlink()
    assert b"content" in again.path.read_bytes()
    assert again.path.parent == holder
    assert store.ensure("key", lambda: entries, holder).facts == made.facts


def test_a_store_and_records_are_read_while_others_remove_from_them(tmp_path: Path) -> None:
    store, records, holder = LayerStore(tmp_path), BuiltImages(tmp_path), tmp_path / "holder"
    holder.mkdir()
    store.folder.mkdir()
    over = threading.Event()
    names = [store.folder / f"k.{number:064x}.tar" for number in range(30)]
    built = [
        BuiltImage(task_id="t", task_digest=f"sha256:{number}", image_id="i", reference="r", base="b", layers=())
        for number in range(30)
    ]

    def disturb() -> None:
        while not over.is_set():
            for path, record in zip(names, built, strict=True):
                path.touch()
                records.add(record)
            for path, record in zip(names, built, strict=True):
                path.unlink(missing_ok=True)
                records.forget(record.task_digest)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(300):
            list(store.stored())
            list(records.all())
            for record in built[:5]:
                records.find(record.task_digest)
            store.ensure("k", list, holder)
    finally:
        over.set()
        thread.join()
    assert os.listdir(holder)  # noqa: PTH208 -- names are enough
