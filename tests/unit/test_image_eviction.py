"""When room is short, what was not used longest goes first; what is asked for stays."""

from pathlib import Path

from envfarm.images.built_images import KnownImage
from envfarm.images.eviction import bytes_of, plan_eviction
from envfarm.images.layer_archive import LayerFacts
from envfarm.images.layer_store import StoredLayer
from envfarm.records.image import BuiltImage, ImageLayer

SIZES = {"python": 80, "lock": 20}


def image(task: str, used_at: float, *, image_id: str | None = None, size: int = 4, shared: str = "lock") -> KnownImage:
    layers = [ImageLayer(name="base", diff_id="base"), ImageLayer(name="interpreter", diff_id="python", size_bytes=80)]
    layers.append(ImageLayer(name="environment", diff_id=shared, size_bytes=20))
    layers.append(ImageLayer(name="task", diff_id=image_id or task, size_bytes=size))
    built = BuiltImage(
        task_id=task, task_digest=task, image_id=image_id or task, reference=task, base="debian", layers=tuple(layers)
    )
    return KnownImage(built=built, used_at=used_at)


def stored(diff_id: str, used_at: float, size: int) -> StoredLayer:
    facts = LayerFacts(diff_id=diff_id, size_bytes=size)
    return StoredLayer(key=diff_id, facts=facts, path=Path(diff_id), used_at=used_at)


def names(images: tuple[KnownImage, ...]) -> list[str]:
    return [known.built.task_id for known in images]


def test_shared_layers_count_once_and_the_base_for_nothing() -> None:
    assert bytes_of([image("a", 1), image("b", 2)], [stored("python", 1, 80)]) == 80 + 20 + 4 + 4 + 80


def test_nothing_goes_while_all_fits() -> None:
    plan = plan_eviction([image("a", 1), image("b", 2)], [], 108)
    assert (plan.images, plan.layers, plan.bytes_before, plan.bytes_after) == ((), (), 108, 108)


def test_the_image_that_was_not_used_longest_goes_first() -> None:
    plan = plan_eviction([image("a", 3), image("b", 1), image("c", 2)], [], 108)
    assert names(plan.images) == ["b"]
    assert plan.bytes_after == 108


def test_layers_that_no_image_has_go_before_any_image() -> None:
    plan = plan_eviction([image("a", 1)], [stored("old", 9, 50), stored("python", 1, 80)], 184)
    assert (plan.images, [layer.key for layer in plan.layers]) == ((), ["old"])


def test_of_layers_that_no_image_has_the_one_that_was_not_used_longest_goes() -> None:
    plan = plan_eviction([], [stored("new", 9, 50), stored("old", 1, 50), stored("newer", 10, 50)], 100)
    assert [layer.key for layer in plan.layers] == ["old"]


def test_an_image_takes_the_layers_along_that_only_it_had() -> None:
    images = [image("a", 1, shared="other"), image("b", 2)]
    plan = plan_eviction(images, [stored("other", 1, 20), stored("lock", 2, 20)], 140)
    assert (names(plan.images), [layer.key for layer in plan.layers]) == (["a"], ["other"])


def test_images_of_one_id_go_together_by_their_latest_use() -> None:
    images = [image("a", 1, image_id="same"), image("b", 9, image_id="same"), image("c", 5)]
    assert names(plan_eviction(images, [], 104).images) == ["c"]
    assert names(plan_eviction(images, [], 0).images) == ["a", "b", "c"]


def test_what_was_just_built_stays_even_where_nothing_fits() -> None:
    plan = plan_eviction([image("a", 1), image("b", 2)], [stored("python", 1, 80)], 0, kept_ids=frozenset({"a"}))
    assert names(plan.images) == ["b"]
    assert [layer.key for layer in plan.layers] == ["python"]
    assert plan.bytes_after == 104
