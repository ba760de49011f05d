"""Compiles gettext catalogues (.po) that have no compiled form (.mo): what a project's own build step would do.

Standard library only, CPython 3.6 and newer. Runs before the tests in every box, so that a fix of a translation is
seen by its test, and tests that need catalogues are not skipped. Nothing of a catalogue is run.
"""

import ast
import os
import struct


def compile_all(folder):
    """Write the .mo beside every .po below a folder named LC_MESSAGES that lacks one; return how many."""
    count = 0
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != ".git"]
        if os.path.basename(place) != "LC_MESSAGES":
            continue
        for name in files:
            target = os.path.join(place, name[:-3] + ".mo")
            if not name.endswith(".po") or os.path.exists(target):
                continue
            try:
                with open(os.path.join(place, name), "rb") as file:
                    content = compile_catalogue(file.read().decode("utf-8", "replace"))
                with open(target, "wb") as file:
                    file.write(content)
                count += 1
            except (OSError, ValueError, SyntaxError):
                continue
    return count


def compile_catalogue(text):
    """Return the bytes of a .mo file for the text of a .po file; fuzzy and untranslated entries are left out."""
    messages = {}
    for entry in _entries(text):
        identity = entry.get("msgid", "")
        if "msgctxt" in entry:
            identity = entry["msgctxt"] + "\x04" + identity
        if "msgid_plural" in entry:
            identity += "\0" + entry["msgid_plural"]
            forms = [entry[key] for key in sorted(entry) if key.startswith("msgstr[")]
            translation = "\0".join(forms) if any(forms) else ""
        else:
            translation = entry.get("msgstr", "")
        if translation:
            messages[identity.encode("utf-8")] = translation.encode("utf-8")
    return _pack(messages)


def _entries(text):
    entry, key, fuzzy = {}, None, False
    for line in [line.strip() for line in text.splitlines()] + [""]:
        if line.startswith("#,") and "fuzzy" in line:
            fuzzy = True
        elif line.startswith("#"):
            continue
        elif not line:
            if entry and not fuzzy:
                yield entry
            entry, key, fuzzy = {}, None, False
        elif line.startswith('"'):
            if key is not None:
                entry[key] += ast.literal_eval(line)
        else:
            word, _, rest = line.partition(" ")
            if word in ("msgid", "msgctxt") and "msgstr" in " ".join(entry):
                if not fuzzy:
                    yield entry
                entry, fuzzy = {}, False
            key = word
            entry[key] = ast.literal_eval(rest.strip())


def _pack(messages):
    names = sorted(messages)
    table = 7 * 4
    start = table + 16 * len(names)
    names_block = b"".join(name + b"\0" for name in names)
    texts_block = b"".join(messages[name] + b"\0" for name in names)
    names_table, texts_table = [], []
    name_at, text_at = start, start + len(names_block)
    for name in names:
        names_table += [len(name), name_at]
        texts_table += [len(messages[name]), text_at]
        name_at += len(name) + 1
        text_at += len(messages[name]) + 1
    head = struct.pack("<7I", 0x950412DE, 0, len(names), table, table + 8 * len(names), 0, 0)
    tables = struct.pack("<{}I".format(4 * len(names)), *(names_table + texts_table))
    return head + tables + names_block + texts_block
