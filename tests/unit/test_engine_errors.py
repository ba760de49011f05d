"""What a container engine says went wrong, as errors of ours."""

from envfarm.errors import Attribution
from envfarm.sandbox.docker.engine_errors import api_error

NO_POOL = "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"


def test_an_engine_without_addresses_may_have_some_later_and_says_what_to_do() -> None:
    error = api_error("the network x", 404, NO_POOL, building=False)
    assert (error.retryable, error.attribution) == (True, Attribution.SANDBOX)
    assert "default-address-pools" in str(error)
