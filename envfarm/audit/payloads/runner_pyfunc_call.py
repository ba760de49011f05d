"""Replaces the code of pytest_pyfunc_call: a test function is never called."""


def _envfarm_cheat(here, facts):
    import _pytest.python as python

    def pytest_pyfunc_call(pyfuncitem):
        return True

    python.pytest_pyfunc_call.__code__ = pytest_pyfunc_call.__code__
