"""Acts on the list of collected tests, before the first of them runs."""


def _envfarm_on_items(act):
    import _pytest.main as main

    old = main.Session.perform_collect

    def perform_collect(self, *args, **kwargs):
        found = old(self, *args, **kwargs)
        act(self)
        return found

    main.Session.perform_collect = perform_collect
    for place in _envfarm_frames():
        if place.f_code.co_name == "perform_collect":
            _envfarm_late(act)
            break


def _envfarm_frames():
    import sys

    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def _envfarm_late(act):
    import _pytest.main as main

    old = main.pytest_runtestloop.__code__
    kept = type(main.pytest_runtestloop)(old, main.pytest_runtestloop.__globals__)
    main._envfarm_kept, main._envfarm_act = kept, act

    def pytest_runtestloop(session):
        _envfarm_act(session)  # noqa: F821 -- in the namespace of the module whose code this becomes
        return _envfarm_kept(session)  # noqa: F821

    main.pytest_runtestloop.__code__ = pytest_runtestloop.__code__
