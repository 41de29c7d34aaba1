"""What the text cites is in the bibliography, under that name and year."""

import json
import re
import unicodedata
from pathlib import Path

import pytest
from pybtex.database import parse_file

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("book/*.md"), *ROOT.glob("notebooks/[0-9][0-9]_*.ipynb")])
LINK = re.compile(r"\[([^\]\[]+)\]\((?:\.\./book/)?bibliography\.md[^)]*\)")


def cited(path):
    """The words of a page that link to the bibliography."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return [" ".join(words.split()) for words in LINK.findall(text)]


@pytest.fixture(scope="module")
def known():
    """Surnames of the authors, in order, and year of every entry."""
    entries = parse_file(str(ROOT / "book" / "references.bib")).entries.values()
    return [
        ([" ".join(p.prelast_names + p.last_names) for p in e.persons["author"]], e.fields["year"])
        for e in entries
    ]


def plain(name):
    """A name without its accents, which are TeX in the one place and letters in the other."""
    letters = unicodedata.normalize("NFKD", re.sub(r"['’]s$|\\[a-zA-Z](?=\{)", "", name))
    return re.sub(r"[{}\\'\"`^~\u0300-\u036f]", "", letters)


@pytest.mark.parametrize("path", [p for p in PAGES if cited(p)], ids=lambda p: p.stem)
def test_who_is_cited_is_listed_with_that_year(path, known):
    for words in cited(path):
        years = re.findall(r"\b(?:1[89]|20)\d\d\b", words)
        if not years:
            continue
        names = re.split(r", | and ", re.sub(r"[ ,(]*\d{4}.*", "", words))
        names = [name for name in names if name and name != "others"]
        assert names, f"{path.name} cites {words}, and does not say whom"
        listed = [
            entry
            for entry in known
            if entry[1] in years
            and [plain(n) for n in entry[0][: len(names)]] == [plain(n) for n in names]
        ]
        assert listed, f"{path.name} cites {words}; the bibliography has no such entry"
