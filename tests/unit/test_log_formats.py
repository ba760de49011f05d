"""What runners print is read as SWE-bench's lists have it; a log that cannot be true earns nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.errors import TaskError, VerifierError
from envfarm.foreign.log_formats import FORMATS, Status, format_named
from envfarm.foreign.swebench_judge import END, START, TestLists, find_status, judge_log
from envfarm.records.verdict import Component

P, F, E, S, X = Status.PASSED, Status.FAILED, Status.ERROR, Status.SKIPPED, Status.XFAIL
PYTEST = """\
============ short test summary info ============
PASSED tests/test_a.py::test_one
PASSED tests/test_a.py::test_two[a b]
FAILED tests/test_a.py::test_three - AssertionError: PASSED tests/test_a.py::test_five
ERROR tests/test_b.py::test_four - no fixture
SKIPPED [2] tests/test_a.py:7: no network
XFAIL tests/test_a.py::test_six - known
1 failed, 2 passed in 0.1s
"""
DJANGO = """\
test_one (app.tests.Case) ... ok
test_two (app.tests.Case)
What it does ... ok
test_three (app.tests.Case) ... FAIL
test_four (app.tests.Case) ... ERROR
test_five (app.tests.Case) ... skipped 'no database'
test_six (app.tests.Case) ... System check identified no issues
ok
FAIL: test_seven (app.tests.Case)
Ran 7 tests in 0.1s
"""


@pytest.mark.parametrize(
    ("name", "log", "expected"),
    [
        (
            "parse_log_pytest",
            PYTEST,
            {
                "tests/test_a.py::test_one": P,
                "tests/test_a.py::test_two[a": P,
                "tests/test_a.py::test_three": F,
                "tests/test_b.py::test_four": E,
                "tests/test_a.py::test_six": X,
            },
        ),
        (
            "parse_log_pytest_v2",
            f"\x1b[32m{PYTEST}tests/old.py::test_old PASSED\n",
            {
                "tests/test_a.py::test_one": P,
                "tests/test_a.py::test_two[a b]": P,
                "tests/test_a.py::test_three": F,
                "tests/test_b.py::test_four - no fixture": E,
                "tests/test_a.py::test_six - known": X,
                "tests/old.py::test_old": P,
            },
        ),
        (
            "parse_log_requests",
            "PASSED t.py::test[/tmp/x/file] tail\nPASSED t.py::test[//a/b]\nFAILED t.py::test[*/a] - no\n",
            {"t.py::test[/file]": P, "t.py::test[//a/b]": P, "t.py::test[*/a]": F},
        ),
        (
            "parse_log_django",
            DJANGO,
            {
                "test_one (app.tests.Case)": P,
                "What it does": P,
                "test_three (app.tests.Case)": F,
                "test_four (app.tests.Case)": E,
                "test_five (app.tests.Case)": S,
                "test_six (app.tests.Case)": P,
                "test_seven": F,
            },
        ),
        (
            "parse_log_sympy",
            "sympy/core/tests/test_a.py[3]\ntest_a ok\ntest_b F\ntest_c E\n___ sympy/core/tests/test_a.py:test_b ___\n",
            {"test_a": P, "test_b": F, "test_c": E, "sympy/core/tests/test_a.py:test_b": F},
        ),
        ("parse_log_seaborn", "t.py::a PASSED [ 50%]\nFAILED t.py::b - no\n", {"t.py::a": P, "t.py::b": F}),
        ("parse_log_matplotlib", "PASSED t.py::a[MouseButton.LEFT]\n", {"t.py::a[1]": P}),
        (
            "parse_log_gotest",
            "=== RUN TestA\n--- PASS: TestA (0.00s)\n    --- FAIL: TestA/sub_case (0.10s)\n--- SKIP: TestB (0.00s)\n",
            {"TestA": P, "TestA/sub_case": F, "TestB": S},
        ),
        ("parse_log_cargo", "test a::b ... ok\ntest a::c ... FAILED\ntest a::d ... ignored\n", {"a::b": P, "a::c": F}),
        (
            "parse_log_googletest",
            "[ RUN      ] A.b\n[       OK ] A.b (0 ms)\n[  FAILED  ] A.c (1 ms)\n[  FAILED  ] A.c\n",
            {"A.b": P, "A.c": F},
        ),
        ("parse_log_tap", "1..2\nok 1 adds\nnot ok 2 takes away\n", {"adds": P, "takes away": F}),
        ("parse_log_vitest", " ✓ a > b 12ms\n × a > c\n ↓ a > d [skipped]\n", {"a > b": P, "a > c": F, "a > d": S}),  # noqa: RUF001
    ],
)
def test_each_runner_is_read(name: str, log: str, expected: dict[str, Status]) -> None:
    assert format_named(name).parse(log) == expected


def test_a_parser_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(TaskError, match="parse_log_pytest_v2"):
        format_named("def parse(log): ...")


@given(st.sampled_from(sorted(FORMATS)), st.text(alphabet="PASEDFIL ok.:-[]()/\n1✓", max_size=200))
def test_any_log_is_read(name: str, log: str) -> None:
    FORMATS[name].parse(log)


LISTS = TestLists(fail_to_pass=("t::new",), pass_to_pass=("t::old", "t::skipped"))
GOOD = "PASSED t::new\nPASSED t::old\nSKIPPED t::skipped\n"


def judged(
    body: str, *, code: str = "0", before: str = "", lists: TestLists = LISTS
) -> tuple[float, dict[str, Component]]:
    log = f"{before}{START}\n{body}{END}\n>>>>> Test Exit Code: {code}\n"
    reward, components = judge_log(log, FORMATS["parse_log_pytest"], lists)
    return reward, {component.name: component for component in components}


def test_all_that_has_to_pass_passes() -> None:
    assert judged(GOOD)[0] == 1.0


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("FAILED t::new\nPASSED t::old\nSKIPPED t::skipped\n", "t::new (failed)"),
        ("SKIPPED t::new\nPASSED t::old\nSKIPPED t::skipped\n", "t::new (skipped)"),
        ("PASSED t::old\nSKIPPED t::skipped\n", "t::new (missing)"),
        ("PASSED t::new\nERROR t::old\nSKIPPED t::skipped\n", "t::old (error)"),
        ("", "t::new (missing)"),
    ],
)
def test_a_test_that_fails_is_skipped_or_missing_is_named(body: str, told: str) -> None:
    reward, components = judged(body, code="1")
    assert reward == 0.0
    assert any(told in component.rationale for component in components.values())


def test_an_exit_code_that_no_failing_test_explains_earns_nothing() -> None:
    reward, components = judged(GOOD, code="1")
    assert (reward, components["exit_code"].value) == (0.0, 0.0)


def test_lines_outside_the_markers_count_for_nothing() -> None:
    assert judged("FAILED t::new\nPASSED t::old\nSKIPPED t::skipped\n", code="1", before=GOOD)[0] == 0.0


def test_a_run_that_never_began_is_no_0_and_one_that_was_cut_is() -> None:
    with pytest.raises(VerifierError, match="start marker"):
        judge_log("bash: no such file\n", FORMATS["parse_log_pytest"], LISTS)
    reward, (component,) = judge_log(f"{START}\n{GOOD}", FORMATS["parse_log_pytest"], LISTS)
    assert (reward, component.name) == (0.0, "tests_ended")
    assert judge_log(">>>>> Patch Apply Failed\n", FORMATS["parse_log_pytest"], LISTS)[0] == 0.0


def test_silence_is_a_pass_only_where_the_task_says_so_and_something_was_told() -> None:
    lists = TestLists(fail_to_pass=("t::new",), pass_to_pass=(), counts_silence=True)
    assert judged("PASSED t::other\n", lists=lists)[0] == 1.0
    assert judged("FAILED t::new\n", code="1", lists=lists)[0] == 0.0
    with pytest.raises(VerifierError, match="silence"):
        judged("", lists=lists)


def test_an_id_that_was_cut_in_its_parameters_is_found_where_all_that_fit_agree() -> None:
    assert find_status("t::a[x", {"t::a[x y]": P, "t::a[x z]": X}) is P
    assert find_status("t::a[x", {"t::a[x y]": P, "t::a[x z]": F}) is None
    assert find_status("t::a", {"t::ab": P}) is None
