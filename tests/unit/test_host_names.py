"""Which hosts an allowlist lets through: tables."""

import ipaddress

import pytest

from envfarm.errors import SettingsError
from envfarm.sandbox.allowlist.host_names import is_public, read_hosts


@pytest.mark.parametrize(
    ("entries", "host", "port", "allowed"),
    [
        (["example.org"], "example.org", 443, True),
        (["example.org"], "EXAMPLE.org.", 80, True),
        (["example.org"], "example.org", 22, False),
        (["example.org"], "www.example.org", 443, False),
        (["example.org"], "example.org.evil.net", 443, False),
        (["example.org"], "notexample.org", 443, False),
        (["*.example.org"], "a.b.example.org", 443, True),
        (["*.example.org"], "example.org", 443, False),
        (["*.example.org"], ".example.org", 443, False),
        (["*.example.org"], "evilexample.org", 443, False),
        (["example.org:8443"], "example.org", 8443, True),
        (["example.org:8443"], "example.org", 443, False),
        (["a.net", "b.net:81"], "b.net", 81, True),
        (["example.org"], "93.184.216.34", 443, False),
        (["example.org"], "[::1]", 443, False),
        (["example.org"], "", 443, False),
        ([], "example.org", 443, False),
    ],
)
def test_hosts_are_let_through_by_name_and_port(entries: list[str], host: str, port: int, *, allowed: bool) -> None:
    assert read_hosts(entries).allows(host, port) == allowed


@pytest.mark.parametrize(
    "entry",
    ["", "*", "*.", "a..b", "http://a.org", "a.org/x", "a.org:0", "a.org:x", "a.org:70000", "127.0.0.1", "a b", "-a"],
)
def test_what_is_no_host_name_is_told(entry: str) -> None:
    with pytest.raises(SettingsError, match="no host name"):
        read_hosts([entry])


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("2606:4700:4700::1111", True),
        ("10.1.2.3", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 -- refused
        ("::1", False),
        ("fd00::1", False),
        ("fe80::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:1.1.1.1", True),
    ],
)
def test_only_public_addresses_are_led_to(address: str, *, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) == public
