"""Why a unit or candidate fell: the closed list. docs/reasons.md is its page; a test keeps the two equal. PURE."""

from enum import StrEnum


class Stage(StrEnum):
    """The stages of mining, in order."""

    SCAN = "scan"
    SCREEN = "screen"
    ENVIRONMENT = "environment"
    VALIDATE = "validate"
    PACKAGE = "package"
    GATE = "gate"
    PUBLISH = "publish"


class ReasonCode(StrEnum):
    """Why a unit or candidate did not become a task; `OK` for one that passed the stage."""

    OK = "OK"
    # scan: units that are no candidates
    ROOT_COMMIT = "ROOT_COMMIT"
    NO_SOURCE_CHANGE = "NO_SOURCE_CHANGE"
    NO_TEST_CHANGE = "NO_TEST_CHANGE"
    # screen: units whose change cannot alter what a test sees
    SOURCE_SAME_BEHAVIOUR = "SOURCE_SAME_BEHAVIOUR"
    NO_NEW_TEST_BEHAVIOUR = "NO_NEW_TEST_BEHAVIOUR"
    UNSUPPORTED_CHANGE = "UNSUPPORTED_CHANGE"
    TOO_LARGE = "TOO_LARGE"
    OBJECT_MISSING = "OBJECT_MISSING"
    # environment
    NO_INTERPRETER = "NO_INTERPRETER"
    LOCK_FAILED = "LOCK_FAILED"
    INSTALL_FAILED = "INSTALL_FAILED"
    PROJECT_BUILD_FAILED = "PROJECT_BUILD_FAILED"
    # validate
    NOTHING_RAN = "NOTHING_RAN"
    FIX_DOES_NOT_PASS = "FIX_DOES_NOT_PASS"
    MASS_SKIP = "MASS_SKIP"
    RUN_TIMEOUT = "RUN_TIMEOUT"
    NO_FAIL_TO_PASS = "NO_FAIL_TO_PASS"
    ONLY_UNSTABLE = "ONLY_UNSTABLE"
    # package and gate
    LEAK_FOUND = "LEAK_FOUND"
    TASK_TOO_LARGE = "TASK_TOO_LARGE"
    FIX_NOT_SCORED_1 = "FIX_NOT_SCORED_1"
    CONTROL_ACCEPTED = "CONTROL_ACCEPTED"
    # anywhere: the farm's own fault; run again by the next `mine`
    FARM_ERROR = "FARM_ERROR"


RETRIED_BY_THEMSELVES = frozenset({ReasonCode.FARM_ERROR})
