"""A layer's bytes depend on its entries alone, and an image's id on its layers and configuration alone."""

import hashlib
import io
import json
import tarfile
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.images.layer_archive import LAYER_TIME, LayerEntry, giver, write_layer
from envfarm.images.recipe import ARCHIVE_END, Recipe, RecipeLayer, archive_head, count_known_layers

ENTRIES = [
    LayerEntry(path="a/b/file", mode=0o644, owner=1000, modified_at=5, read=giver(b"text")),
    LayerEntry(path="a/run", mode=0o755, read=giver(b"#!/bin/sh\n")),
    LayerEntry(path="a/link", link_target="run"),
    LayerEntry(path="a", owner=1000, modified_at=7),
    LayerEntry(path="a-b", mode=0o644, read=giver(b"")),
    LayerEntry(path="long/" + "x" * 150, mode=0o644, read=giver(b"long")),
    LayerEntry(path="undecodable/\udcff", mode=0o644, read=giver(b"odd")),
]
RECIPE = Recipe(
    layers=(RecipeLayer(name="base", diff_id="sha256:00"), RecipeLayer(name="task", diff_id="sha256:11")),
    variables={"B": "2", "A": "1"},
    workdir="/workspace",
    machine="x86_64",
)


def written(entries: list[LayerEntry]) -> bytes:
    buffer = io.BytesIO()
    facts = write_layer(entries, buffer)
    assert facts.diff_id == f"sha256:{hashlib.sha256(buffer.getvalue()).hexdigest()}"
    assert facts.size_bytes == len(buffer.getvalue())
    return buffer.getvalue()


@given(st.permutations(ENTRIES))
def test_the_order_in_which_entries_come_does_not_matter(entries: list[LayerEntry]) -> None:
    assert written(entries) == written(ENTRIES)


def test_the_bytes_are_these_and_no_others() -> None:
    digest = "5dc7c5f297b2c5c9c50282daec93b8df4ea59b04fee58b1b8a0a2016caab99f3"
    assert hashlib.sha256(written(ENTRIES[:5])).hexdigest() == digest


def test_folders_come_before_what_is_in_them_with_the_owners_and_times_given() -> None:
    with tarfile.open(fileobj=io.BytesIO(written(ENTRIES)), errors="surrogateescape") as archive:
        members = {member.name: member for member in archive}
    names = list(members)
    assert names.index("a") < names.index("a/b") < names.index("a/b/file")
    assert [(members[name].uid, members[name].mtime) for name in ("a", "a/b", "a/b/file")] == [
        (1000, 7),
        (0, LAYER_TIME),
        (1000, 5),
    ]
    assert {(member.uname, member.gname) for member in members.values()} == {("", "")}
    assert members["a/link"].linkname == "run"
    assert "undecodable/\udcff" in names


@pytest.mark.parametrize(
    "entries",
    [
        [LayerEntry(path="/etc")],
        [LayerEntry(path="a/../b")],
        [LayerEntry(path="")],
        [LayerEntry(path="a//b")],
        [LayerEntry(path="a"), LayerEntry(path="a")],
        [LayerEntry(path="a", link_target="/etc"), LayerEntry(path="a/b")],
        [LayerEntry(path="a", read=giver(b"")), LayerEntry(path="a/b/c")],
    ],
)
def test_paths_that_lead_elsewhere_are_refused(entries: list[LayerEntry]) -> None:
    with pytest.raises(ValueError, match=r"not a path|no folder"):
        write_layer(entries, io.BytesIO())


def test_the_id_of_an_image_is_the_digest_of_its_configuration() -> None:
    assert RECIPE.image_id == f"sha256:{hashlib.sha256(RECIPE.config).hexdigest()}"
    assert RECIPE.tag == f"envfarm-task:{RECIPE.image_id[7:39]}"
    config = json.loads(RECIPE.config)
    assert config["created"] == "2024-01-01T00:00:00Z"
    assert config["config"]["Env"] == ["A=1", "B=2"]
    assert config["rootfs"]["diff_ids"] == ["sha256:00", "sha256:11"]


def test_each_part_of_a_recipe_changes_the_id_and_the_order_of_variables_does_not() -> None:
    same = replace(RECIPE, variables={"A": "1", "B": "2"})
    others = [
        replace(RECIPE, variables={"A": "1"}),
        replace(RECIPE, workdir="/"),
        replace(RECIPE, machine="aarch64"),
        replace(RECIPE, layers=RECIPE.layers[:1]),
        replace(RECIPE, layers=RECIPE.layers[::-1]),
    ]
    assert same.image_id == RECIPE.image_id
    assert len({recipe.image_id for recipe in [RECIPE, *others]}) == 6


def test_the_archives_head_names_configuration_and_layers() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive_head(RECIPE) + ARCHIVE_END)) as archive:
        file = archive.extractfile("manifest.json")
        assert file is not None
        manifest = json.load(file)[0]
        config = archive.extractfile(manifest["Config"])
        assert config is not None
        assert config.read() == RECIPE.config
    assert manifest["RepoTags"] == [RECIPE.tag]
    assert manifest["Layers"] == ["00/layer.tar", "11/layer.tar"]


@pytest.mark.parametrize(
    ("mine", "held", "known"),
    [
        ("abcd", [], 0),
        ("abcd", ["ab"], 2),
        ("abcd", ["ab", "abcx", "abx"], 3),
        ("abcd", ["bcd"], 0),
        ("ab", ["abcd"], 2),
    ],
)
def test_known_layers_are_counted_from_the_bottom(mine: str, held: list[str], known: int) -> None:
    assert count_known_layers(mine, held) == known
