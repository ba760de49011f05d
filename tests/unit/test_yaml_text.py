"""YAML of strangers is a plain value, or refused in one line before it fills the memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.formats.json_text import parse_json, render_json
from envfarm.formats.lint_compose import lint_compose
from envfarm.formats.yaml_text import parse_yaml

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{above}'] * 10)}]\n" for above, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGED = f"a: &a {{{', '.join(f'k{number}: 1' for number in range(10_001))}}}\nb: {{<<: *a}}\n"
NO_YAML = {
    "tab": "a:\n\t- b",
    "a wrong truth": "a: !!bool perhaps",
    "a wrong number": 'a: !!int ""',
    "a wrong fraction": 'a: !!float ""',
    "a wrong date": "a: !!timestamp soon",
    "a date": "a: !!timestamp 2024-01-01",
    "a date beyond all": "a: !!timestamp 2024-99-99",
    "bytes": "a: !!binary AAAA",
    "a set": "a: !!set {b, c}",
    "pairs": "a: !!pairs [b: c]",
    "a python object": "a: !!python/object/apply:os.getcwd []",
    "a list as a key": "? [a]\n: b",
    "itself": "&a [*a]",
    "an alias to nothing": "*a",
    "a bomb": BOMB,
    "a bomb of merges": MERGED,
    "a bomb of texts": f"a: &a {'x' * 10_000}\nb: [{', '.join(['*a'] * 1000)}]\n",
    "deep": "[" * 1000,
    "a huge number": "a: 0x" + "f" * 5000,
    "a longer number": "a: " + "9" * 5000,
    "a control character": "a: \0",
    "a second document": "a: 1\n---\nb: 2\n",
}


@pytest.mark.parametrize("name", NO_YAML)
def test_yaml_that_is_no_plain_value_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        parse_yaml(NO_YAML[name])
    assert "\n" not in str(caught.value)
    assert [rule for rule, _ in lint_compose(NO_YAML[name], "environment/docker-compose.yaml")] == [
        "invalid-task-config"
    ]


def test_yaml_dates_stay_as_they_are_written_and_few_aliases_are_fine() -> None:
    text = "a: 2024-01-01\nb: &b {x: 1}\nc: *b\nd: {<<: *b, y: 2024-01-01 10:00:00}\ne: !!null ''\n"
    expected = {"a": "2024-01-01", "b": {"x": 1}, "c": {"x": 1}, "d": {"x": 1, "y": "2024-01-01 10:00:00"}, "e": None}
    assert parse_yaml(text) == expected


@given(st.text(max_size=30) | st.text("[]{}:&*!<>-?|'\"#%@ab1\n ", max_size=30))
def test_any_text_is_a_plain_value_or_refused_in_one_line(text: str) -> None:
    try:
        value = parse_yaml(text)
    except ValueError as error:
        told = str(error)
    else:
        told = "fine"
        parse_json(render_json(value), "here")
    assert told
    assert "\n" not in told
