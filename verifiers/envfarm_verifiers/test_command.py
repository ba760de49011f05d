"""A run of tests as a command: what to start, with which variables and which standard input. PURE."""

import marshal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envfarm.sandbox.contract import ENVIRONMENT, TRUSTED

PINNED_VARIABLES: Mapping[str, str] = {
    "PYTHONHASHSEED": "0",
    "TZ": "UTC",
    "LC_ALL": "C.UTF-8",
    "COLUMNS": "80",
    "PYTHONDONTWRITEBYTECODE": "1",
    "CI": "true",
}
"""What would otherwise differ from machine to machine, and change what tests see."""

MARSHAL_VERSION = 2
"""Read by every CPython 3."""


@dataclass(frozen=True, kw_only=True)
class TestCommand:
    """One run of tests.

    Attributes:
        paths: Test files, relative to the workspace.
        plugins: Modules of pytest plug-ins to load; nothing else is loaded.
        options: More options of pytest.
        test_timeout_seconds: Bound on one test; 0 for none.
        run_timeout_seconds: Bound on the whole run.
        order_seed: Shuffles files, classes and functions; None for file order.
        only_ids: Run only these tests; empty for all.
        stop_ids: End the session once one of these has not passed.
        environment_variables: The task's own; they win over `PINNED_VARIABLES`.
        only_definitions: Run only tests of these ids without parameters; empty for all.
        watched: Whether the audit hook and the snapshots are on.
        asking: Whether altered files may ask instead of comparing.
        light: Whether what runs need only for their messages is left out, and parameter sets are named by their place.
        test_code: Patterns of paths that are no submitted code, for the audit hook.
    """

    __test__ = False

    paths: tuple[str, ...]
    plugins: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    test_timeout_seconds: float = 60.0
    run_timeout_seconds: float = 600.0
    order_seed: int | None = None
    only_ids: tuple[str, ...] = ()
    stop_ids: tuple[str, ...] = ()
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    only_definitions: tuple[str, ...] = ()
    watched: bool = False
    asking: bool = False
    light: bool = False
    test_code: tuple[str, ...] = ()

    def argv(self) -> tuple[str, ...]:
        """Return program and arguments."""
        return (f"{ENVIRONMENT}/bin/python", "-s", f"{TRUSTED}/launch.py")

    def variables(self) -> dict[str, str]:
        """Return the variables of the run."""
        return {**PINNED_VARIABLES, **self.environment_variables}

    def stdin(self, nonce: str, place: Mapping[str, Any] | None = None) -> bytes:
        """Return the job that the launcher reads; the nonce stands nowhere else.

        Args:
            nonce: The run's own.
            place: What the launcher places before anything else, as `Placement.job` gives it.
        """
        job = {
            "nonce": nonce,
            "paths": self.paths,
            "plugins": self.plugins,
            "options": self.options,
            "test_timeout_seconds": self.test_timeout_seconds,
            "order_seed": self.order_seed,
            "only_ids": self.only_ids,
            "stop_ids": self.stop_ids,
            "only_definitions": self.only_definitions,
            "watch": self.watched,
            "asks": self.asking,
            "light": self.light,
            "sources": self.test_code,
        }
        return marshal.dumps(job if place is None else {**job, "place": place}, MARSHAL_VERSION)
