"""Replaces the public functions and methods of a module by ones whose results can be changed."""


def _envfarm_change_results(here, change):
    import functools
    import types

    def wrap(function):
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                result = error
            changed = change(function, args, result)
            if changed is result and isinstance(result, Exception):
                raise result
            return changed

        return wrapped

    for name, value in list(here.items()):
        if name.startswith("_"):
            continue
        if isinstance(value, types.FunctionType) and value.__module__ == here["__name__"]:
            here[name] = wrap(value)
        elif isinstance(value, type) and value.__module__ == here["__name__"]:
            for inner, method in list(vars(value).items()):
                if isinstance(method, types.FunctionType) and not inner.startswith("_"):
                    try:
                        setattr(value, inner, wrap(method))
                    except (AttributeError, TypeError):
                        continue


def _envfarm_current():
    import os

    return os.environ.get("PYTEST_CURRENT_TEST", "").rsplit(" ", 1)[0]
