"""The repository's address stands in _config.yml, and everything else repeats it rightly."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import rehome

ROOT = Path(__file__).resolve().parents[2]
OWNER, NAME = rehome.parse(rehome.current(ROOT))
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
REPEATS = ["pyproject.toml", "README.md", "CITATION.cff"]
REPEATS += [f"notebooks/{path.name}" for path in CHAPTERS]
# Addresses by which a reader reaches the repository's own files.
OWN = re.compile(
    r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)"
    r"|git\+https://github\.com/([\w.-]+/[\w-]+)"
    rf"|github\.com/([\w.-]+/{re.escape(NAME)})(?![\w-])"
    rf"|([\w-]+\.github\.io/{re.escape(NAME)})(?![\w-])"
)


def texts():
    for path in rehome.text_files(ROOT):
        if path.suffix != ".svg" and "tests" not in path.relative_to(ROOT).parts:
            yield path, path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", REPEATS)
def test_files_that_repeat_the_address_name_it(name):
    assert f"{OWNER}/{NAME}" in (ROOT / name).read_text(encoding="utf-8")


def test_every_repeated_address_is_the_configured_one():
    right = {f"{OWNER}/{NAME}", rehome.site(OWNER, NAME).removeprefix("https://")}
    wrong = [
        f"{path.relative_to(ROOT)}: {match.group(0)}"
        for path, text in texts()
        for match in OWN.finditer(text)
        if next(filter(None, match.groups())) not in right
    ]
    assert not wrong, f"not {OWNER}/{NAME}: run `make rehome URL=...`:\n" + "\n".join(wrong)


def test_package_metadata():
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Repository"] == rehome.current(ROOT)
    assert urls["Book"].rstrip("/") == rehome.site(OWNER, NAME)


@pytest.fixture
def repository(tmp_path):
    """A small repository at github.com/old-owner/old-book."""
    (tmp_path / "_config.yml").write_text(
        "title: a\nrepository:\n  # one place\n  branch: main\n"
        "  url: https://github.com/old-owner/old-book\n"
    )
    (tmp_path / "page.md").write_text(
        "See https://github.com/old-owner/old-book/blob/main/x.py, "
        "https://old-owner.github.io/old-book/index.html, "
        "https://colab.research.google.com/github/old-owner/old-book/blob/main/a.ipynb, "
        "git+https://github.com/old-owner/old-book.git, the end: old-owner/old-book.\r\n"
        "Not ours: old-owner/old-book-2, other/old-book, very-old-owner/old-book.\n"
    )
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0old-owner/old-book")
    (tmp_path / "ignored.txt").write_text("old-owner/old-book")
    (tmp_path / ".gitignore").write_text("ignored.txt\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def test_rehome_changes_every_form_and_nothing_else(repository):
    changed = rehome.rehome("https://github.com/new-owner/The.Book/", repository)
    assert [path.name for path in changed] == ["_config.yml", "page.md"]
    assert rehome.current(repository) == "https://github.com/new-owner/The.Book"
    assert (repository / "page.md").read_bytes().decode() == (
        "See https://github.com/new-owner/The.Book/blob/main/x.py, "
        "https://new-owner.github.io/The.Book/index.html, "
        "https://colab.research.google.com/github/new-owner/The.Book/blob/main/a.ipynb, "
        "git+https://github.com/new-owner/The.Book.git, the end: new-owner/The.Book.\r\n"
        "Not ours: old-owner/old-book-2, other/old-book, very-old-owner/old-book.\n"
    )
    assert b"old-owner/old-book" in (repository / "picture.png").read_bytes()
    assert (repository / "ignored.txt").read_text() == "old-owner/old-book"


def test_rehome_twice_and_back(repository):
    before = (repository / "page.md").read_bytes()
    rehome.rehome("https://github.com/a/b", repository)
    assert rehome.rehome("https://github.com/a/b", repository) == []
    rehome.rehome("https://github.com/old-owner/old-book.git", repository)
    assert (repository / "page.md").read_bytes() == before


def test_a_user_site_stands_at_the_root():
    assert rehome.site("Ann", "ann.github.io") == "https://Ann.github.io"
    assert rehome.site("Ann", "book") == "https://Ann.github.io/book"


@pytest.mark.parametrize(
    "url", ["", "github.com/a/b", "https://example.org/a/b", "https://github.com/a"]
)
def test_a_bad_address_is_refused_with_the_right_form(url, repository):
    with pytest.raises(rehome.BadAddress, match=r"Give it as https://github\.com"):
        rehome.rehome(url, repository)


def test_the_command_says_what_is_missing():
    run = subprocess.run(
        [sys.executable, ROOT / "tools" / "rehome.py", ""], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "make rehome URL=" in run.stderr
