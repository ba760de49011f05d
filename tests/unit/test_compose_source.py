"""What a compose command gets to read: nothing of this machine, and no variable of it."""

import json

import pytest

from envfarm.errors import TaskError
from envfarm.foreign.compose_mounts import TaskFiles
from envfarm.foreign.compose_source import ComposeSource, named_services, prepare_source

FILES = TaskFiles(
    told_as="environment/docker-compose.yaml",
    name="environment",
    root="/private",
    content={
        "x.env": b"A=1",
        ".env": b"COLOUR=red\nSHAPE=round\n",
        "~root/.env": b"A=1",
        "refers.env": b"A=1\nURL=http://${HOST}/\n",
    },
)


def prepared(text: str, *, image: str | None = None, **variables: str) -> ComposeSource:
    return prepare_source(text.encode(), FILES, variables, image)


@pytest.mark.parametrize(
    ("told", "renamed"),
    [
        ("$A", "$TASK_VARIABLE_A"),
        ("${A}", "${TASK_VARIABLE_A}"),
        ("${A:-x${B}}", "${TASK_VARIABLE_A:-x${TASK_VARIABLE_B}}"),
        ("$$A", "$$A"),
        ("$$$A", "$$$TASK_VARIABLE_A"),
        ("$$${A}", "$$${TASK_VARIABLE_A}"),
        ("$1 $ x", "$1 $ x"),
        ("${}", "${}"),
    ],
)
def test_variables_have_a_prefix_that_no_program_knows(told: str, renamed: str) -> None:
    source = prepared(json.dumps({"services": {"db": {"image": told}}}))
    assert source.documents[1]["services"]["db"]["image"] == renamed
    assert all(name.startswith("TASK_VARIABLE_") for name in source.variables)


def test_what_the_task_says_wins_over_its_file_and_harbor_over_both() -> None:
    told = prepared("services: {db: {}}", COLOUR="blue", CONTEXT_DIR="/etc").variables
    assert (told["TASK_VARIABLE_COLOUR"], told["TASK_VARIABLE_SHAPE"]) == ("blue", "round")
    assert told["TASK_VARIABLE_CONTEXT_DIR"] == "/private"
    assert told["TASK_VARIABLE_ENV_VERIFIER_LOGS_PATH"] == "/logs/verifier"


def test_variables_that_are_named_alone_come_from_the_task_or_not_at_all() -> None:
    text = "services: {db: {environment: [GIVEN, SECRET, A=1]}, other: {environment: {GIVEN: , B: yes, C: true}}}"
    services = prepared(text, GIVEN="$5").documents[1]["services"]
    assert services["db"]["environment"] == {"GIVEN": "$$5", "A": "1"}
    assert services["other"]["environment"] == {"GIVEN": "$$5", "B": "yes", "C": "true"}


def test_arguments_of_a_build_that_are_named_alone_come_from_the_task_or_not_at_all() -> None:
    text = "services: {db: {build: {context: ., args: [GIVEN, SECRET, A=1]}}, other: {build: {args: {GIVEN: }}}}"
    services = prepared(text, GIVEN="$5").documents[1]["services"]
    assert services["db"]["build"] == {"context": ".", "args": {"GIVEN": "$$5", "A": "1"}}
    assert services["other"]["build"] == {"args": {"GIVEN": "$$5"}}


def test_variables_that_no_program_could_be_started_with_are_refused() -> None:
    with pytest.raises(TaskError, match=r"^environment/docker-compose\.yaml: its variables have more than 96 KiB$"):
        prepared("services: {db: {}}", LONG="a" * 140_000)


def test_main_is_built_of_the_folder_or_is_the_named_image_and_stays() -> None:
    text = "services: {db: {image: x}, more: {image: x, profiles: [debug]}}"
    (built, _), (named, _) = prepared(text).documents, prepared(text, image="work:1").documents
    assert built["services"]["main"] == {"build": {"context": "/private"}, "command": ["sh", "-c", "sleep infinity"]}
    assert named["services"]["main"]["image"] == "work:1"
    assert named_services(text.encode(), "f") == {"main", "db"}


def test_main_is_the_box_whatever_profiles_are_chosen() -> None:
    (_, document) = prepared("services: {main: {profiles: [debug]}, more: {profiles: [debug]}}").documents
    assert document["services"] == {"main": {}, "more": {"profiles": ["debug"]}}


def test_only_files_of_variables_are_opened() -> None:
    assert prepared("services: {db: {env_file: [x.env, {path: no.env, required: false}]}}").opened == {"x.env"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("include: [/etc/x.yaml]\nservices: {db: {}}", "include"),
        ("include: https://example.org/x.git\nservices: {db: {}}", "include"),
        ("secrets: {a: {file: /etc/shadow}}\nservices: {db: {}}", "secrets"),
        ("configs: {a: {file: /etc/shadow}}\nservices: {db: {}}", "configs"),
        ("services: {db: {extends: {file: ../other.yaml, service: x}}}", r"services\.db\.extends"),
        ("services: {db: {env_file: /etc/environment}}", r"services\.db\.env_file"),
        ("services: {db: {env_file: [../secret.env]}}", r"services\.db\.env_file"),
        ("services: {db: {env_file: {path: /etc/x, required: false}}}", r"services\.db\.env_file"),
        ("services: {db: {env_file: '${WHERE}'}}", r"services\.db\.env_file"),
        ("services: {db: {env_file: [no.env]}}", r"services\.db\.env_file"),
        ("services: {db: {env_file: ~root/.env}}", r"services\.db\.env_file"),
        ("services: {db: {env_file: [{path: ~root/.env, required: false}]}}", r"services\.db\.env_file"),
        ("services: {db: {env_file: refers.env}}", r"services\.db\.env_file: .* refers to variables"),
        ("services: {db: {build: {context: ., args: 3}}}", r"services\.db\.build\.args"),
        ("services: {db: {label_file: /etc/x}}", r"services\.db\.label_file"),
        ("services: {db: {provider: {type: x}}}", r"services\.db\.provider"),
        ("services: {db: {environment: 3}}", r"services\.db\.environment"),
        ("services: {db: 3}", r"services\.db"),
        ("services: {3: {}}", r"services\.3"),
        ('services: {"a\\nb": {env_file: /etc/x}}', r"services\.'a\\nb'"),
        ("services: []", "no services"),
        ("[]", "no services"),
        ("services: {db: !reset null}", "no YAML"),
        ("services: {", "no YAML"),
        ("services: {db: {}} #" + "x" * 300_000, "256 KiB"),
    ],
)
def test_a_file_that_reads_from_elsewhere_is_refused_before_it_is_read(text: str, words: str) -> None:
    with pytest.raises(TaskError, match=rf"^environment/docker-compose\.yaml: .*{words}") as caught:
        prepared(text)
    assert "\n" not in str(caught.value)


def test_a_file_of_variables_that_cannot_be_read_is_refused() -> None:
    files = TaskFiles(told_as="f", name="environment", root="/private", content={".env": b"A=$HOME"})
    with pytest.raises(TaskError, match=r"environment/\.env"):
        prepare_source(b"services: {db: {}}", files, {}, None)
