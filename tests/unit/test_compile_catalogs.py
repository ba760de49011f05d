"""Catalogues are compiled as gettext itself reads them."""

import gettext
import importlib.util
import io
from pathlib import Path
from types import ModuleType

import envfarm_verifiers

PO = """
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"

# a comment
msgid "hello"
msgstr "grüß dich"

msgctxt "time"
msgid "second"
msgstr "Sekunde"
msgid "%d day"
msgid_plural "%d days"
msgstr[0] "%d Tag"
msgstr[1] "%d "
"Tage"

#, fuzzy
msgid "unsure"
msgstr "falsch"

msgid "untranslated"
msgstr ""
"""


def load() -> ModuleType:
    path = Path(str(envfarm_verifiers.__file__)).parent / "box_programs" / "compile_catalogs.py"
    spec = importlib.util.spec_from_file_location("compile_catalogs_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_gettext_reads_what_was_compiled() -> None:
    found = gettext.GNUTranslations(io.BytesIO(load().compile_catalogue(PO)))
    assert found.gettext("hello") == "grüß dich"
    assert found.pgettext("time", "second") == "Sekunde"
    assert [found.ngettext("%d day", "%d days", n) for n in (1, 2)] == ["%d Tag", "%d Tage"]
    assert found.gettext("unsure") == "unsure"
    assert found.gettext("untranslated") == "untranslated"


def test_only_missing_catalogues_are_compiled(tmp_path: Path) -> None:
    folder = tmp_path / "locale" / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "a.po").write_text(PO)
    (folder / "b.po").write_text(PO)
    (folder / "b.mo").write_bytes(b"theirs")
    (folder / "c.po").write_text('msgid "broken\n')
    assert load().compile_all(str(tmp_path)) == 1
    assert (folder / "a.mo").is_file()
    assert (folder / "b.mo").read_bytes() == b"theirs"
