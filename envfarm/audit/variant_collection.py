"""All honest variants: how the code is written, what it does beside its work, what it returns. PURE."""

from envfarm.audit.variant import Variant
from envfarm.audit.variants.branches import return_early, swap_branches
from envfarm.audit.variants.calls import CACHED, LOGGED, SLOWER, THREADED, TRACED, WARNED
from envfarm.audit.variants.emission import Change, by_bodies
from envfarm.audit.variants.loops import comprehensions_to_loops, loops_to_comprehensions
from envfarm.audit.variants.maker import Rewrite, make_by
from envfarm.audit.variants.renamed_locals import rename_locals
from envfarm.audit.variants.results import COLLECTION_SUBCLASSES, DATACLASS, NUMBER_SUBCLASSES, STR_SUBCLASS
from envfarm.audit.variants.split import split_functions
from envfarm.audit.variants.whole_module import written_again
from envfarm.audit.variants.wrapping import Decorator, by_decorator, by_patching


def _written(name: str, what: str, rewrite: Rewrite) -> Variant:
    return Variant(name, what, make_by(rewrite))


def _changed(name: str, what: str, change: Change) -> Variant:
    return Variant(name, what, make_by(by_bodies(change)))


def _decorated(name: str, what: str, decorator: Decorator) -> Variant:
    return Variant(name, what, make_by(by_decorator(decorator)))


VARIANTS: tuple[Variant, ...] = (
    _changed("locals_renamed", "Local variables have other names.", rename_locals),
    _written("function_split", "The body is a private function, called with the same arguments.", split_functions),
    _changed("early_returns", "No else stands after a branch that leaves.", return_early),
    _changed("branches_swapped", "The other branch stands first, and the condition is negated.", swap_branches),
    _changed("comprehension_to_loop", "Loops stand in place of comprehensions.", comprehensions_to_loops),
    _changed("loop_to_comprehension", "Comprehensions stand in place of loops that append.", loops_to_comprehensions),
    _written("module_unparsed", "A tool has written the whole module again: no comments, other lines.", written_again),
    _decorated("calls_logged", "Each call is logged by a logger of the module's own, which prints nothing.", LOGGED),
    _decorated("calls_warned", "Each call warns its caller, and nobody hears it.", WARNED),
    _decorated("calls_cached", "What is made of plain values is kept, where it is a plain value.", CACHED),
    _decorated("calls_threaded", "Each call runs in a thread of its own.", THREADED),
    _decorated("calls_slower", "Each call takes ten times as long, at most five milliseconds more.", SLOWER),
    _written("self_patched", "The module wraps its own functions and methods at its end.", by_patching(TRACED)),
    _decorated("str_subclass", "Text is returned as a subclass of str.", STR_SUBCLASS),
    _decorated("tuple_int_subclasses", "Tuples and numbers are returned as subclasses.", NUMBER_SUBCLASSES),
    _decorated(
        "list_dict_subclasses", "Fresh lists and dictionaries are returned as subclasses.", COLLECTION_SUBCLASSES
    ),
    _decorated("tuple_as_dataclass", "A tuple is returned as a dataclass that is equal to it.", DATACLASS),
)
