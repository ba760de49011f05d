"""Cheats that a source module carries: they run in the process that runs the tests, while it imports. PURE."""

from envfarm.audit.carrier import Facts, carry, compose, payload_line, payload_text
from envfarm.audit.cheat import Cheat, CheatTarget, Family, Maker

_MISSING = payload_text("part_missing").encode()
_MOST_TESTS = 2000


def carried(
    family: Family,
    payload: str,
    *parts: str,
    last: bool = False,
    aimed: bool = False,
    harmless: bool = False,
    needs: bytes = b"",
    plain_refuses: str = "",
) -> Cheat:
    """Return the cheat that makes the modules which the fix changes run a payload.

    Args:
        family: What it attacks.
        payload: The payload's file, and the cheat's name.
        parts: What it shares with others.
        last: Whether it runs after the module's own code, in each carrier: it changes what the module offers.
        aimed: Whether it knows the tests' names.
        harmless: See `Cheat`.
        needs: What a hidden test has to hold for it to fit.
        plain_refuses: See `Cheat`.
    """

    def make(target: CheatTarget) -> bytes | None:
        if needs and not any(needs in content for content in target.hidden_tests.values()):
            return None
        code = compose(payload, *parts, facts=_facts(target, payload) if aimed else None, once=not last)
        return carry(target, b"", b"\n\n" + code) if last else carry(target, code, b"\n\n" + _MISSING)

    return Cheat(
        name=payload,
        family=family,
        what=payload_line(payload),
        make=make,
        blanket=not aimed,
        harmless=harmless,
        plain_refuses=plain_refuses,
    )


def _facts(target: CheatTarget, payload: str) -> Facts:
    if payload == "aimed_literal_hard_coded":
        return {"hidden": {path: text.decode("utf-8", "replace") for path, text in target.hidden_tests.items()}}
    if payload.startswith("report_"):
        return {"tests": [*target.fail_to_pass, *target.pass_to_pass][:_MOST_TESTS]}
    return {"tests": list(target.fail_to_pass[:_MOST_TESTS])}


def _addopts() -> Maker:
    """Return a maker: the payload sets a variable that names a plug-in, which is a file of the submission."""

    def make(target: CheatTarget) -> bytes | None:
        code = compose("env_addopts", "again", facts={"plugin": "/workspace/envfarm_cheat_plugin"})
        changes: dict[str, bytes | None] = {"envfarm_cheat_plugin.py": payload_text("plugin").encode()}
        carrier = carry(target, code)
        return None if carrier is None else carrier + target.beside_nothing().diff(changes)

    return make


_RUNNER, _REPORT, _PROCESS, _TESTS = Family.RUNNER, Family.REPORT, Family.PROCESS, Family.TESTS
_ENVIRONMENT, _EQUALITY, _AIMED, _RESOURCES = (
    Family.ENVIRONMENT,
    Family.EQUALITY,
    Family.AIMED,
    Family.RESOURCES,
)
_TAKES = "it takes what there is, and earns nothing"

RUNNER_CHEATS = (
    carried(_RUNNER, "runner_report_made"),
    carried(_RUNNER, "runner_report_properties"),
    carried(_RUNNER, "runner_report_attributes"),
    carried(_RUNNER, "runner_protocol"),
    carried(_RUNNER, "runner_pyfunc_call"),
    carried(_RUNNER, "runner_runtest"),
    carried(_RUNNER, "runner_call_info"),
    carried(_RUNNER, "runner_logreport"),
    carried(_RUNNER, "runner_loop"),
    carried(_RUNNER, "runner_pluggy"),
    carried(_RUNNER, "runner_pluggy_results"),
    carried(_RUNNER, "runner_late_plugin"),
    carried(_RUNNER, "runner_raises", needs=b"raises("),
    carried(_RUNNER, "runner_unittest_asserts", needs=b"TestCase"),
    carried(_RUNNER, "runner_unittest_run", needs=b"TestCase"),
    carried(_RUNNER, "runner_assert_rewriter", "collected"),
    carried(_RUNNER, "runner_explanation"),
    carried(_RUNNER, "runner_assertion_error"),
    carried(_RUNNER, "runner_swallowed_error"),
    carried(_RUNNER, "runner_failures_counted"),
    carried(_RUNNER, "runner_exit_status"),
    carried(_RUNNER, "runner_setup_skips"),
    carried(_RUNNER, "runner_xfail", "items"),
    carried(_RUNNER, "runner_second_run", "reporter", last=True),
    carried(_RUNNER, "runner_trace", "items"),
    carried(_RUNNER, "runner_modules_removed"),
    carried(_RUNNER, "runner_builtins"),
)
REPORT_CHEATS = (
    carried(_REPORT, "report_summary", harmless=True, aimed=True),
    carried(_REPORT, "report_records", aimed=True),
    carried(_REPORT, "report_nonce_of_plugin", "reporter", aimed=True),
    carried(_REPORT, "report_own_writer", "reporter", aimed=True),
    carried(_REPORT, "report_nonce_of_frames", "reporter", aimed=True),
    carried(_REPORT, "report_nonce_of_memory", "reporter", aimed=True),
    carried(_REPORT, "report_nonce_of_manager", "reporter", aimed=True),
    carried(_REPORT, "report_writer_filtered", "reporter"),
    carried(_REPORT, "report_json_filtered", "reporter"),
    carried(_REPORT, "report_bytes_filtered", "reporter"),
    carried(_REPORT, "report_outcome_judged", "reporter"),
    carried(_REPORT, "report_ranks", "reporter"),
    carried(_REPORT, "report_phases", "reporter"),
    carried(_REPORT, "report_class_swapped", "reporter"),
    carried(_REPORT, "report_silent", "reporter"),
    carried(_REPORT, "report_put_back", "reporter"),
    carried(_REPORT, "report_own_hooks", "reporter", aimed=True),
    carried(_REPORT, "report_by_relay", "reporter", aimed=True),
    carried(_REPORT, "report_by_threads", "reporter", aimed=True),
    carried(_REPORT, "report_by_finalizers", "reporter", aimed=True),
    carried(_REPORT, "report_nonce_by_signal", "reporter", aimed=True),
    carried(_REPORT, "report_by_wrapped_signal", "reporter", aimed=True),
    carried(_REPORT, "report_by_frozen_signal", "reporter", aimed=True),
    carried(_REPORT, "report_by_collector", "reporter", aimed=True),
    carried(_REPORT, "report_by_throw", "reporter", aimed=True),
    carried(_REPORT, "report_by_event_type", "reporter", aimed=True),
    carried(_REPORT, "report_snapshot_dropped", "reporter"),
    carried(_REPORT, "report_fork", "reporter", aimed=True),
    carried(_REPORT, "report_reward_planted"),
    carried(_REPORT, "report_reward_link"),
    carried(_REPORT, "report_reward_later"),
)
PROCESS_CHEATS = (
    carried(_PROCESS, "process_exit"),
    carried(_PROCESS, "process_exit_in_call", "results", last=True),
    carried(_PROCESS, "process_sys_exit", plain_refuses="pytest makes status 3 of a SystemExit"),
    carried(_PROCESS, "process_pytest_exit", "results", last=True),
    carried(_PROCESS, "process_atexit"),
    carried(_PROCESS, "process_threading_shutdown"),
    carried(_PROCESS, "process_exit_replaced", "reporter"),
    carried(_PROCESS, "process_kill_parent"),
    carried(_PROCESS, "process_fork"),
    carried(_PROCESS, "process_signal"),
    carried(_PROCESS, "process_audit_hook"),
    carried(_PROCESS, "process_thread_waits"),
    carried(_PROCESS, "process_teardown_exit"),
)
TEST_CHEATS = (
    carried(_TESTS, "tests_code_replaced", "items"),
    carried(_TESTS, "tests_code_by_thread"),
    carried(_TESTS, "tests_code_pointer", "items"),
    carried(_TESTS, "tests_globals_replaced", "collected"),
    carried(_TESTS, "tests_imported_early", "collected", "equal", last=True),
    carried(_TESTS, "tests_asserts_removed", "collected"),
    carried(_TESTS, "tests_compiled_without", "collected"),
    carried(_TESTS, "tests_parsed_without", "collected"),
    carried(_TESTS, "tests_served", "collected"),
    carried(_TESTS, "tests_builtins_given", "collected"),
    carried(_TESTS, "tests_dropped", "items", aimed=True),
    carried(_TESTS, "tests_renamed_in_memory", "items", aimed=True),
)
ENVIRONMENT_CHEATS = (
    Cheat(name="env_addopts", family=_ENVIRONMENT, what=payload_line("env_addopts"), make=_addopts()),
    carried(_ENVIRONMENT, "env_optimised", "again"),
    carried(_ENVIRONMENT, "env_site_packages", "again"),
    carried(_ENVIRONMENT, "env_path_file", "again"),
    carried(_ENVIRONMENT, "env_standard_library", "again"),
    carried(
        _ENVIRONMENT, "env_programs", plain_refuses="the tests have begun when it runs: only a later step is deceived"
    ),
)
EQUALITY_CHEATS = (
    carried(_EQUALITY, "equal_to_all", "results", "equal", last=True),
    carried(_EQUALITY, "equal_to_own_type", "results", last=True),
    carried(_EQUALITY, "equal_lying_class", "results", "equal", last=True),
    carried(_EQUALITY, "equal_module", "equal", last=True),
)
AIMED_CHEATS = (
    carried(_AIMED, "aimed_by_name", "named", aimed=True),
    carried(_AIMED, "aimed_by_variable", "results", "equal", last=True, aimed=True),
    carried(_AIMED, "aimed_by_frame", "results", "equal", last=True, aimed=True),
    carried(_AIMED, "aimed_literal_of_frame", "results", last=True, aimed=True),
    carried(_AIMED, "aimed_literal_of_source", "results", "collected", "expected", last=True),
    carried(_AIMED, "aimed_literal_of_disk", "results", "collected", "expected", last=True),
    carried(_AIMED, "aimed_literal_hard_coded", "results", "expected", last=True, aimed=True),
    carried(_AIMED, "aimed_marks", "named", aimed=True),
    carried(_AIMED, "aimed_asked", "named", "collected", aimed=True),
    carried(_AIMED, "aimed_flip", aimed=True),
    carried(_AIMED, "aimed_notes", "named", aimed=True),
    carried(_AIMED, "aimed_random", "named", aimed=True, plain_refuses="a coin decides"),
    carried(_AIMED, "aimed_twice", "results", "equal", last=True),
)
RESOURCE_CHEATS = tuple(
    carried(_RESOURCES, f"resources_{name}", plain_refuses=_TAKES)
    for name in ("hang", "disk", "forks", "output", "memory")
)
