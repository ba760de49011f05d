"""Settings of any text are settings that hold, or one line that says where they are wrong."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import example, given, settings
from hypothesis import strategies as st

from envfarm.errors import SettingsError
from envfarm.settings import FILE_NAME, Settings, load_settings

HOME = {"HOME": "/home/user"}
WORDS = st.sampled_from(
    ["", "0", "3", "-1", "nan", "inf", "1e9", "true", "null", "~", "~nobody/x", "a\nb", "\udce4", "commit"]
)
VALUES = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab\n", max_size=3), inner, max_size=2),
    max_leaves=4,
)
KEYS = st.sampled_from(
    ["runs", "jobs", "cutoff", "mutants", "run_timeout_seconds", "provider", "options", "retries", "level"]
)
DOCUMENTS = st.dictionaries(
    st.sampled_from(["mine", "sandbox", "grading", "cache_folder", "other", "a\nb"]),
    VALUES | st.dictionaries(KEYS, VALUES, max_size=3),
    max_size=3,
)
NAMES = st.lists(
    st.sampled_from(["MINE", "RUNS", "SANDBOX", "OPTIONS", "GRADING", "CACHE_FOLDER", "CONFIG", "", "X"]), max_size=3
).map("__".join)
VARIABLES = st.dictionaries(NAMES.map("ENVFARM_{}".format), WORDS, max_size=3)


def check(text: bytes, environ: dict[str, str]) -> None:
    """Load settings; anything but settings that hold or a SettingsError of one line passes."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / FILE_NAME).write_bytes(text)
        try:
            found = load_settings(Path(name), HOME | environ)
        except SettingsError as error:
            told = str(error)
        else:
            told = "fine"
            hold(found)
    assert told
    assert "\n" not in told.replace(environ.get("ENVFARM_CONFIG") or "\n\n", "FILE")


def hold(found: Settings) -> None:
    assert found.mine.runs >= 3
    assert min(found.mine.jobs, found.mine.mutants, found.grading.retries) >= 0
    assert 0 < found.mine.run_timeout_seconds < 1e7
    assert 0 < found.mine.test_timeout_seconds < 1e7
    assert found.cache_folder.is_absolute()
    os.fsencode(found.cache_folder)


@given(st.binary(max_size=40) | DOCUMENTS.map(lambda document: tomlkit.dumps(document).encode()), VARIABLES)
@example(b"a = " + b"[" * 20_000, {})
@example(b"a = " + b"9" * 5_000, {})
@example(b'"a\\nb" = 1', {})
@example(b"", {"ENVFARM_MINE__CUTOFF": "\udce4"})
@settings(max_examples=200)
def test_any_text_and_variables_hold_or_are_one_line(text: bytes, environ: dict[str, str]) -> None:
    check(text, environ)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("mine.runs", 2),
        ("mine.runs", -3),
        ("mine.jobs", -1),
        ("mine.mutants", -1),
        ("mine.run_timeout_seconds", 0.0),
        ("mine.run_timeout_seconds", float("nan")),
        ("mine.run_timeout_seconds", float("inf")),
        ("mine.test_timeout_seconds", -1.0),
        ("mine.cutoff", "yesterday"),
        ("grading.retries", -1),
        ("grading.mixed_runs", -1),
        ("cache_folder", ""),
        ("cache_folder", "a\0b"),
        ("cache_folder", "~no-such-user/cache"),
        ("cache_folder", 1),
    ],
)
def test_values_that_cannot_hold_are_refused_by_their_key(tmp_path: Path, key: str, wrong: Any) -> None:
    document: dict[str, Any] = {}
    place = document
    for part in key.split(".")[:-1]:
        place = place.setdefault(part, {})
    place[key.rpartition(".")[2]] = wrong
    (tmp_path / FILE_NAME).write_text(tomlkit.dumps(document))
    with pytest.raises(SettingsError, match=rf"\$\.{key}") as caught:
        load_settings(tmp_path, HOME)
    assert "\n" not in str(caught.value)


def test_the_least_values_hold(tmp_path: Path) -> None:
    text = (
        "[mine]\nruns = 3\njobs = 0\nmutants = 0\nrun_timeout_seconds = 0.1\n[grading]\nretries = 0\nmixed_runs = 0\n"
    )
    (tmp_path / FILE_NAME).write_text(text)
    found = load_settings(tmp_path, HOME | {"ENVFARM_CACHE_FOLDER": "~/cache"})
    hold(found)
    assert (found.grading.retries, found.grading.mixed_runs, found.mine.mutants) == (0, 0, 0)
    assert found.cache_folder == Path.home() / "cache"
