"""Settings come from defaults, a file and variables; what does not exist is named with what is near."""

from pathlib import Path

import pytest

from envfarm.errors import SettingsError, UnknownPluginError
from envfarm.plugins import SANDBOXES, installed_plugins, load_plugin
from envfarm.settings import load_settings


def test_defaults_need_no_file(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {"HOME": "/home/user"})
    assert settings.cache_folder == Path("/home/user/.cache/envfarm")
    assert (settings.mine.runs, settings.sandbox.provider) == (3, "local")


def test_the_nearest_file_upward_holds_and_variables_win(tmp_path: Path) -> None:
    (tmp_path / "envfarm.toml").write_text("[mine]\nruns = 4\nmutants = 1\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    settings = load_settings(below, {"ENVFARM_MINE__RUNS": "7", "ENVFARM_CACHE_FOLDER": str(tmp_path)})
    assert (settings.mine.runs, settings.mine.mutants, settings.cache_folder) == (7, 1, tmp_path)


@pytest.mark.parametrize(
    ("text", "environ", "said"),
    [
        ("[mine]\nrunz = 4\n", {}, r"mine\.runz: did you mean 'runs'"),
        ("", {"ENVFARM_GRADING__RETRYS": "1"}, r"grading\.retrys: did you mean 'retries'"),
        ("nonsense = 1\n", {}, "unknown setting nonsense"),
        ("[mine]\nruns = 'many'\n", {}, "wrong value"),
        ("[mine\n", {}, "is no TOML"),
        ("", {"ENVFARM_CONFIG": "/nowhere/envfarm.toml"}, "cannot be read"),
        ("", {"ENVFARM_CACHE_FOLDER__X": "1", "ENVFARM_CACHE_FOLDER": "/x"}, "no section"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path: Path, text: str, environ: dict[str, str], said: str) -> None:
    (tmp_path / "envfarm.toml").write_text(text)
    with pytest.raises(SettingsError, match=said) as caught:
        load_settings(tmp_path, environ)
    assert "\n" not in str(caught.value)


def test_plugins_are_found_by_name_and_near_misses_are_named() -> None:
    assert "local" in installed_plugins(SANDBOXES)
    assert callable(load_plugin(SANDBOXES, "local"))
    with pytest.raises(UnknownPluginError, match="did you mean 'local'"):
        load_plugin(SANDBOXES, "locla")
