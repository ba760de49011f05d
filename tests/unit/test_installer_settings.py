"""Which settings of a user reach the installing step, and that nothing else does."""

import re
from pathlib import Path

import anyio
import pytest

from envfarm.images.installer_settings import read_installer_settings
from envfarm.records.image import Image
from envfarm.sandbox.contract import ExecResult, LeaseRequest
from envfarm.sandbox.local.provider import open_local_provider


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    return tmp_path


def variables(home: Path, **environ: str) -> dict[str, str]:
    return dict(read_installer_settings({"HOME": str(home), **environ}).variables)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"PIP_INDEX_URL": "https://a/simple"}, {"UV_DEFAULT_INDEX": "https://a/simple"}),
        ({"PIP_EXTRA_INDEX_URL": "https://a/s\nhttps://b/s"}, {"UV_INDEX": "https://a/s https://b/s"}),
        ({"PIP_TRUSTED_HOST": "a", "PIP_PROXY": "http://p:1"}, {"UV_INSECURE_HOST": "a", "ALL_PROXY": "http://p:1"}),
        ({"UV_DEFAULT_INDEX": "https://u/s", "PIP_INDEX_URL": "https://a/s"}, {"UV_DEFAULT_INDEX": "https://u/s"}),
        ({"UV_INDEX_MINE_PASSWORD": "p", "UV_INDEX_MINE_USERNAME": "u"}, None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "a"}, None),
        ({"MY_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "x", "UV_PUBLISH_TOKEN": "x", "PATH": "/bin", "LANG": "C"}, {}),
    ],
)
def test_variables_of_pip_uv_and_proxies_pass_and_no_others(
    home: Path, environ: dict[str, str], expected: dict[str, str] | None
) -> None:
    told = variables(home, PIP_CONFIG_FILE="/dev/null", **environ)
    assert told == (environ if expected is None else expected)


def test_files_of_pip_are_read_and_variables_win(home: Path) -> None:
    (home / ".config" / "pip" / "pip.conf").write_text("[global]\nindex-url = https://f/s\ntimeout = 7\n")
    assert (
        variables(home, PIP_TIMEOUT="9").items() >= {"UV_DEFAULT_INDEX": "https://f/s", "UV_HTTP_TIMEOUT": "9"}.items()
    )
    (home / "other.conf").write_text("[install]\nindex-url = https://g/s\n")
    assert variables(home, PIP_CONFIG_FILE=str(home / "other.conf"))["UV_DEFAULT_INDEX"] == "https://g/s"
    (home / "other.conf").write_text("no configuration at all")
    assert variables(home, PIP_CONFIG_FILE=str(home / "other.conf"))["UV_DEFAULT_INDEX"] == "https://f/s"


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("SSL_CERT_FILE", "SSL_CERT_FILE"),
        ("PIP_CERT", "SSL_CERT_FILE"),
        ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
        ("PIP_CLIENT_CERT", "SSL_CLIENT_CERT"),
        ("NETRC", "NETRC"),
        ("UV_CONFIG_FILE", "UV_CONFIG_FILE"),
    ],
)
def test_files_are_mounted_where_the_variable_says(home: Path, variable: str, told: str) -> None:
    (home / "file").write_text("x")
    none = {"HOME": str(home), "PIP_CONFIG_FILE": "/dev/null"}
    settings = read_installer_settings(none | {variable: str(home / "file")})
    mounted = {folder.target: folder.source for folder in settings.folders}
    assert mounted[settings.variables[told]] == str(home / "file")


def test_a_file_that_is_not_there_is_not_mounted(home: Path) -> None:
    none = {"HOME": str(home), "PIP_CONFIG_FILE": "/dev/null"}
    settings = read_installer_settings(none | {"SSL_CERT_FILE": str(home / "gone"), "NETRC": "/gone"})
    assert {folder.source for folder in settings.folders} <= {"/etc/uv/uv.toml"}
    assert "NETRC" not in settings.variables


def test_values_are_not_shown(home: Path) -> None:
    assert "secret" not in repr(read_installer_settings({"HOME": str(home), "PIP_INDEX_URL": "https://u:secret@a/s"}))


def test_any_bytes_as_a_file_of_pip_are_read_or_left_out(home: Path) -> None:
    texts = [b"\xff", b"[global", b"index-url = a", b"[global]\nx", b"[global]\n  y\nindex-url: a", b"\0", b"[a]\n" * 9]
    machines = variables(home)  # of /etc/pip.conf
    for text in texts:
        (home / "pip.conf").write_bytes(text)
        told = variables(home, PIP_CONFIG_FILE=str(home / "pip.conf"))
        assert told | {"UV_DEFAULT_INDEX": ""} == machines | {"UV_DEFAULT_INDEX": ""}
    assert variables(home, PIP_CONFIG_FILE=str(home)) == machines


SECRETS = {
    "UV_INDEX_MINE_PASSWORD": "secret-1",
    "PIP_INDEX_URL": "https://u:secret-2@a/s",
    "HTTPS_PROXY": "http://secret-3",
}


def test_no_box_that_runs_tests_sees_a_setting(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".netrc").write_text("machine a login u password secret-4\n")
    (home / "ca.pem").write_text("secret-5")
    told = SECRETS | {"HOME": str(home), "SSL_CERT_FILE": str(home / "ca.pem"), "AWS_SECRET_ACCESS_KEY": "secret-6"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    settings = read_installer_settings(told)
    assert {folder.target for folder in settings.folders} >= {"/opt/netrc", "/opt/certificates.pem"}

    async def look() -> ExecResult:
        script = "env; cat /proc/self/environ /proc/1/environ /proc/*/cmdline; ls -R /opt; cat ~/.netrc /opt/* 2>&1"
        async with open_local_provider({}) as provider, provider.lease(LeaseRequest(image=Image(image_id="x"))) as box:
            return await box.exec(["sh", "-c", script], timeout_seconds=30.0)

    result = anyio.run(look)
    assert b"PATH=" in result.stdout
    assert not re.search(rb"secret-\d", result.stdout + result.stderr)
    assert b"netrc\n" not in result.stdout
