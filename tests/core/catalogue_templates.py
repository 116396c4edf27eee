"""Everything that a seller may read, as the templates that a catalogue translates; and the catalogues' files brought up to date.

    make messages

adds what is new to every `.po` file, with an empty translation, drops what is gone, names what is missing in each language,
and writes docs/messages.md anew. Run it after every change of a text, then fill in what it names.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

from cosell_sync.catalogues import FILE, LOCALE, languages
from cosell_sync.core.texts import ENGLISH

SOURCE = Path(__file__).parents[2] / "src" / "cosell_sync"
PLACE = re.compile(r"%\((\w+)\)s")
HEADER = """\
# What sellers read in this language; docs/languages.md tells how a catalogue is made and kept.
# The English texts stand in the program: after a change there, `make messages` brings this file up to date.
msgid ""
msgstr ""
"Language: {code}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""


def templates() -> dict[str, list[str]]:
    """Template → the modules that say it: every literal in a `Text(...)`, and every label and choice of a column."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        module = path.relative_to(SOURCE).as_posix()
        for _, template, *_ in extract_from_file("python", path, keywords={"Text": None}):
            if isinstance(template, str) and re.search(r"\w", PLACE.sub("", template)):
                found.setdefault(template, []).append(module)
    for template in column_words():
        found.setdefault(template, []).append("crm/columns.py")
    for module, words in page_words().items():
        for template in words:
            found.setdefault(template, []).append(module)
    return {template: sorted(set(modules)) for template, modules in found.items()}


def column_words() -> Iterator[str]:
    """Labels, help texts and choices of our columns, and the names of our views."""
    from cosell_sync.crm import columns
    from cosell_sync.settings import value_lists

    ours = columns.opportunity_columns(value_lists.choices(value_lists.shipped()))
    for column in (*ours.values(), *columns.SOLUTION_COLUMNS.values(), columns.DUNS_COLUMN):
        yield from (column.label, column.help, *column.values)
    yield from (view.label for view in columns.VIEWS)
    yield from columns.OTHER_WORDS


def page_words() -> Mapping[str, Sequence[str]]:
    """What is shown on Salesforce's pages beside the fields: buttons, reports and their folder."""
    from cosell_sync.crm.salesforce.install import reports, schema

    return {
        "crm/salesforce/install/schema.py": schema.BUTTON_WORDS,
        "crm/salesforce/install/reports.py": reports.WORDS,
    }


def skeleton() -> Catalog:
    """A catalogue with every template and no translation."""
    made = Catalog(charset="utf-8")
    for template, modules in sorted(templates().items(), key=lambda item: (item[1], item[0])):
        made.add(template, locations=[(module, None) for module in modules])
    return made


def path_of(code: str) -> Path:
    return LOCALE / code / FILE


def read(code: str) -> Catalog:
    with path_of(code).open("rb") as file:
        return read_po(file, locale=code, abort_invalid=True)


def entries(code: str) -> dict[str, Message]:
    return {each.id: each for each in read(code) if isinstance(each.id, str) and each.id}


def missing(code: str) -> list[str]:
    """Templates that this language does not say yet."""
    known = entries(code)
    return [each for each in sorted(templates()) if each not in known or not known[each].string]


def update(code: str) -> None:
    """Bring the file up to date; nothing that is translated is lost unless its English is gone."""
    made, known = skeleton(), entries(code)
    fresh = Catalog(locale=code, charset="utf-8")
    for each in made:
        if each.id:
            string = known[each.id].string if each.id in known else ""
            fresh.add(each.id, string, locations=each.locations)
    body = io.BytesIO()
    write_po(body, fresh, width=110, include_lineno=False, omit_header=True)
    path_of(code).write_bytes(HEADER.format(code=code).encode() + body.getvalue())


def translated() -> Sequence[str]:
    return [code for code in languages() if code != ENGLISH]


def main() -> None:
    for code in translated():
        update(code)
        lacking = missing(code)
        print(f"{path_of(code)}: {len(lacking)} to translate")
        for template in lacking:
            print(f"  {template}")


if __name__ == "__main__":
    main()
