"""Interpreters are found where people have them."""

from pathlib import Path

import pytest

from envfarm.images.interpreters import find_interpreters


def program(path: Path, says: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {says}\n" if says else "#!/bin/sh\nexit 3\n")
    path.chmod(0o755)
    return path


def found(home: Path, **environ: str) -> dict[str, str]:
    told = find_interpreters({"HOME": str(home), "PATH": "", **environ})
    return {minor: one.full for minor, one in told.items() if one.executable.startswith(str(home))}


@pytest.mark.parametrize(
    ("place", "environ"),
    [
        (".pyenv/versions/3.91.4/bin/python3.91", {}),
        ("else/versions/3.91.4/bin/python3.91", {"PYENV_ROOT": "{home}/else"}),
        (".asdf/installs/python/3.91.4/bin/python3.91", {}),
        ("else/installs/python/3.91.4/bin/python3.91", {"ASDF_DATA_DIR": "{home}/else"}),
        (".local/share/uv/python/cpython-3.91.4-linux-x86_64-gnu/bin/python3.91", {}),
        ("else/cpython-3.91.4-linux-x86_64-gnu/bin/python3.91", {"UV_PYTHON_INSTALL_DIR": "{home}/else"}),
        ("opt/3.91.4/bin/python3.91", {"PATH": "/nowhere:{home}/opt/3.91.4/bin"}),
    ],
)
def test_pyenv_asdf_uv_and_path(tmp_path: Path, place: str, environ: dict[str, str]) -> None:
    program(tmp_path / place)
    assert found(tmp_path, **{name: value.format(home=tmp_path) for name, value in environ.items()}) == {
        "3.91": "3.91.4"
    }


def test_a_program_whose_place_tells_nothing_is_asked(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "python3.91", "3.91.7 CPython")
    program(tmp_path / "bin" / "python3.92", "3.92.1 PyPy")
    program(tmp_path / "bin" / "python3.93")
    program(tmp_path / "bin" / "python3.94-config", "3.94.1 CPython")
    program(tmp_path / "bin" / "python3.95", "3.95.0rc1 CPython")
    assert found(tmp_path, PATH=str(tmp_path / "bin")) == {"3.91": "3.91.7"}


def test_the_newest_release_of_a_minor_wins_and_shims_are_left_alone(tmp_path: Path) -> None:
    for patch in (9, 10, 2):
        program(tmp_path / ".pyenv" / "versions" / f"3.91.{patch}" / "bin" / "python3.91")
    program(tmp_path / ".pyenv" / "shims" / "python3.91", "3.91.99 CPython")
    assert found(tmp_path, PATH=str(tmp_path / ".pyenv" / "shims")) == {"3.91": "3.91.10"}


def test_a_free_threaded_build_is_no_interpreter_of_its_minor(tmp_path: Path) -> None:
    real = program(tmp_path / "v" / "cpython-3.91.0+freethreaded-linux" / "bin" / "python3.91t", "3.91.0 CPython")
    (real.parent / "python3.91").symlink_to(real.name)
    assert found(tmp_path, UV_PYTHON_INSTALL_DIR=str(tmp_path / "v")) == {}


def test_what_lies_outside_of_the_system_is_mounted_whole(tmp_path: Path) -> None:
    program(tmp_path / ".pyenv" / "versions" / "3.91.4" / "bin" / "python3.91")
    one = find_interpreters({"HOME": str(tmp_path), "PATH": ""})["3.91"]
    assert [(folder.source, folder.target) for folder in one.folders()] == [(one.prefix, one.prefix)]
