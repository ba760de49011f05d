"""Which of a user's settings reach the step that installs: package index, certificates, proxies; nothing else.

uv reads no setting of pip's, so those are told to it in its own words. Values may hold credentials: they go into the
box's variables, and never into a log, a lock or a task.
"""

import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envfarm.records.image import Folder

_CERTIFICATES = "/opt/certificates.pem"
_CERTIFICATE_FOLDER = "/opt/certificates"
_CLIENT_CERTIFICATE = "/opt/client-certificate.pem"
_UV_CONFIG = "/opt/uv.toml"
_NETRC = "/opt/netrc"
_PASSED = re.compile(
    r"UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|INDEX_STRATEGY|INSECURE_HOST|HTTP_TIMEOUT|HTTP_RETRIES|NATIVE_TLS|"
    r"SYSTEM_CERTS|INDEX_[A-Z0-9_]+_(USERNAME|PASSWORD))|(HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy"
)
_FROM_PIP = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "proxy": "ALL_PROXY",
    "default-timeout": "UV_HTTP_TIMEOUT",
}


@dataclass(frozen=True, kw_only=True)
class InstallerSettings:
    """What an installing box is given.

    Attributes:
        variables: Its variables; may hold credentials.
        folders: Files that they name, read-only.
    """

    variables: Mapping[str, str] = field(repr=False)
    folders: tuple[Folder, ...]


def read_installer_settings(environ: Mapping[str, str]) -> InstallerSettings:
    """Return what reaches the installing step, from the variables and the usual files."""
    home = Path(environ.get("HOME", "/nonexistent"))
    pip = read_pip_settings(environ, home)
    variables = {_FROM_PIP[name]: " ".join(value.split()) for name, value in pip.items() if name in _FROM_PIP and value}
    variables |= {name: value for name, value in environ.items() if _PASSED.fullmatch(name)}
    folders = []
    certificates = (
        environ.get("SSL_CERT_FILE")
        or pip.get("cert")
        or environ.get("REQUESTS_CA_BUNDLE")
        or environ.get("CURL_CA_BUNDLE")
    )
    if certificates and Path(certificates).is_file():
        folders.append(Folder(source=str(Path(certificates).resolve()), target=_CERTIFICATES))
        variables["SSL_CERT_FILE"] = _CERTIFICATES
    client = environ.get("SSL_CLIENT_CERT") or pip.get("client-cert")
    if client and Path(client).is_file():
        folders.append(Folder(source=str(Path(client).resolve()), target=_CLIENT_CERTIFICATE))
        variables["SSL_CLIENT_CERT"] = _CLIENT_CERTIFICATE
    authorities = environ.get("SSL_CERT_DIR")
    if authorities and not certificates and Path(authorities).is_dir():
        folders.append(Folder(source=str(Path(authorities).resolve()), target=_CERTIFICATE_FOLDER))
        variables["SSL_CERT_DIR"] = _CERTIFICATE_FOLDER
    config = environ.get("XDG_CONFIG_HOME", str(home / ".config"))
    uv_files = [environ.get("UV_CONFIG_FILE", ""), f"{config}/uv/uv.toml", "/etc/uv/uv.toml"]
    for name, target, variable in [(file, _UV_CONFIG, "UV_CONFIG_FILE") for file in uv_files] + [
        (environ.get("NETRC", str(home / ".netrc")), _NETRC, "NETRC")
    ]:
        if name and variable not in variables and Path(name).is_file():
            folders.append(Folder(source=str(Path(name).resolve()), target=target))
            variables[variable] = target
    return InstallerSettings(variables=variables, folders=tuple(folders))


def read_pip_settings(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return pip's settings by their long names: from its files, then from PIP_* variables."""
    config = environ.get("XDG_CONFIG_HOME", str(home / ".config"))
    files = ["/etc/pip.conf", f"{home}/.pip/pip.conf", f"{config}/pip/pip.conf", environ.get("PIP_CONFIG_FILE", "")]
    settings: dict[str, str] = {}
    for file in [] if environ.get("PIP_CONFIG_FILE") == os.devnull else files:  # pip's own way to have none
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(file or [], encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                settings |= dict(parser.items(section))
    for name, value in environ.items():
        if name.startswith("PIP_"):
            settings[name[4:].lower().replace("_", "-")] = value
    return settings
