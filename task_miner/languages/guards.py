"""How the tests of a file could be altered, in words that no language owns. PURE.

Proposals only: nothing was run yet. Who calibrates them drops what does not hold under the true fix.
"""

from dataclasses import dataclass

from envfarm.records.trust import Edit, Operator, TwinKind, ValueCheck

NUMBER_MARK = "\0"
"""Stands in the text of a `Splice` for a number that is known only when the whole task is."""


@dataclass(frozen=True)
class Splice:
    """Bytes that another text with as many line breaks takes the place of.

    Attributes:
        start: Offset of the first byte in the fixed file.
        end: Offset after the last one.
        text: What comes there. A `NUMBER_MARK` in it is the number of the check, or of the token.
        token: Which expected value of the check the text is a token for; None where it is none.
    """

    start: int
    end: int
    text: str
    token: int | None = None


@dataclass(frozen=True, kw_only=True)
class ProposedCheck:
    """One comparison whose expected value can stay outside.

    All checks of a file may be applied together: their splices never overlap. A variable that several comparisons
    use is one check, asked at several lines, so that dropping a check never leaves a token without a question.

    Attributes:
        path: Path of the test file in the workspace.
        line: Line of the (first) comparison.
        operator: How the value and what is expected are compared.
        expected: Python literals: one, or with `tokens` one for each token, in the order of the file.
        known: Whether the base's own tests tell what is expected: who has read them needs no other way to it.
        tokens: Whether the box names the expected value by a token.
        splices: The alteration, in the order of the file.
    """

    path: str
    line: int
    operator: Operator
    expected: tuple[str, ...]
    known: bool = False
    tokens: bool
    splices: tuple[Splice, ...]

    @property
    def token_count(self) -> int:
        """How many token numbers the check takes, from the first one on."""
        return len(self.expected) if self.tokens else 0

    def edits(self, number: int, first_token: int) -> tuple[Edit, ...]:
        """Return the alteration under a task's own numbers; `first_token` is not looked at where there are no tokens.

        The next check's numbers are ``number + 1`` and ``first_token + check.token_count``.
        """
        made: list[Edit] = []
        for splice in self.splices:
            own = number if splice.token is None else first_token + splice.token
            text = splice.text.replace(NUMBER_MARK, str(own))
            made.append(Edit(path=self.path, start=splice.start, end=splice.end, text=text))
        return tuple(made)

    def numbered(self, number: int, first_token: int) -> ValueCheck:
        """Return the check as a task's record has it."""
        return ValueCheck(
            number=number,
            line=self.line,
            operator=self.operator,
            expected=self.expected,
            known=self.known,
            first_token=first_token if self.tokens else None,
            edits=self.edits(number, first_token),
        )


@dataclass(frozen=True, kw_only=True)
class ProposedTwin:
    """One way to alter a test so that it has to fail.

    It is applied to the fixed file, without the checks of the same test; twins of different tests of a file may be
    applied together.

    Attributes:
        kind: What was altered.
        line: Line of the (first) alteration.
        edits: The alteration, in the order of the file.
        sets: Positions of the parameter sets that were altered; empty where none was.
    """

    kind: TwinKind
    line: int
    edits: tuple[Edit, ...]
    sets: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ProposedTest:
    """All that is proposed for one definition of a test.

    Attributes:
        path: Path of the test file in the workspace.
        name: ``function`` or ``Class::method``.
        first_line: First line, decorators included.
        last_line: Last line.
        checks: Values that can be kept outside.
        twins: Best first: at most 6 strong ones, then at most 2 weak ones.
    """

    path: str
    name: str
    first_line: int
    last_line: int
    checks: tuple[ProposedCheck, ...]
    twins: tuple[ProposedTwin, ...]
