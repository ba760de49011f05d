"""A task's form is told by its files, and what is no task is for others to refuse."""

from pathlib import Path

import pytest

from envfarm.errors import TaskError
from envfarm.foreign.form import Form, form_of
from envfarm.foreign.open_task import open_foreign


@pytest.mark.parametrize(
    ("files", "form"),
    [
        ({"task.toml": "[environment]\n"}, Form.HARBOR),
        ({"task.toml": "[metadata]\nx = 1\n[verifier]\n"}, Form.HARBOR),
        ({"task.toml": "[verifier]\n[metadata.envfarm]\n"}, Form.OURS),
        ({"task.toml": "x = 1\n"}, Form.OURS),
        ({"task.toml": "no toml"}, Form.OURS),
        ({"task.yaml": ""}, Form.SWEBENCH),
        ({"task.yaml": "", "task.toml": "[environment]\n"}, Form.HARBOR),
        ({}, Form.OURS),
    ],
)
def test_forms(files: dict[str, str], form: Form, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert form_of(tmp_path) is form
    assert form.is_foreign == (form is not Form.OURS)
    if form is Form.OURS:
        with pytest.raises(TaskError, match="no Harbor task"):
            open_foreign(tmp_path)


def test_a_whole_repository_is_told_to_name_one_of_its_tasks(tmp_path: Path) -> None:
    (tmp_path / "sweb.yaml").write_text("")
    with pytest.raises(TaskError, match="tasks/ID"):
        form_of(tmp_path)
