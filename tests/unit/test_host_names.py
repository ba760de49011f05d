"""Which hosts an allowlist lets through: tables."""

import ipaddress

import pytest

from envfarm.errors import SettingsError
from envfarm.sandbox.allowlist.host_names import is_host_name, is_public, read_hosts


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
        ("64:ff9b::1.1.1.1", True),
        ("64:ff9b::169.254.169.254", False),
        ("64:ff9b:1::1.1.1.1", False),
        ("2002:a9fe:a9fe::1", False),
        ("::127.0.0.1", False),
        ("::ffff:0:127.0.0.1", False),
        ("fec0::1", False),
        ("2001::1", False),
        ("5f00::1", False),
        ("192.88.99.1", False),
        ("168.63.129.16", False),
    ],
)
def test_only_public_addresses_are_led_to(address: str, *, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) == public


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("a.example.org", True),
        ("xn--bcher-kva.example", True),
        ("a" * 63 + ".example.org", True),
        ("a" * 64 + ".example.org", False),
        (".".join(["a" * 60] * 5), False),
        ("a..example.org", False),
        ("a%00.example.org", False),
        ("*.example.org", False),
        ("1.2.3.4", False),
        ("[::1]", False),
        ("", False),
    ],
)
def test_only_host_names_are_looked_up(name: str, *, is_one: bool) -> None:
    assert is_host_name(name) == is_one
