"""Passes chosen tests without running them."""


def _envfarm_pass_where(chosen):
    import _pytest.python as python

    kinds = [python.Function]
    try:
        import _pytest.unittest as unittest

        kinds.append(unittest.TestCaseFunction)
    except ImportError:
        unittest = None
    for kind in kinds:

        def runtest(self, old=kind.runtest):
            if chosen(self):
                return None
            return old(self)

        kind.runtest = runtest
