"""The edition: the same words for the same commit, and no day that is not known."""

import subprocess
import tomllib
from datetime import date
from pathlib import Path

import edition
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    (tmp_path / "CITATION.cff").write_text('cff-version: 1.2.0\nversion: "2.1.0"\n')
    return tmp_path


def commit(folder):
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", "add", "."], cwd=folder, check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    day = {"GIT_COMMITTER_DATE": "2024-02-03T23:30:00+0500", "PATH": "/usr/bin:/bin"}
    subprocess.run(["git", *who, "commit", "-qm", "x"], cwd=folder, check=True, env=day)


def test_the_day_is_that_of_the_commit(book):
    commit(book)
    assert edition.edition(book) == "Version 2.1.0, 3 February 2024"


def test_a_copy_without_git_has_no_day(book):
    assert edition.edition(book) == "Version 2.1.0"


def test_a_copy_inside_another_repository_has_not_its_day(book):
    commit(book)
    (book / "copy").mkdir()
    (book / "copy" / "CITATION.cff").write_text("version: 3.0.0\n")
    assert edition.edition(book / "copy") == "Version 3.0.0"


def test_reproducible_builds_name_the_day(book, monkeypatch):
    commit(book)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert edition.day(book) == date(1970, 1, 1)


def test_without_a_version_it_says_where_one_is_missing(book):
    (book / "CITATION.cff").write_text("cff-version: 1.2.0\n")
    with pytest.raises(edition.NoVersion, match=r"CITATION\.cff.*Add a line"):
        edition.edition(book)


def test_the_book_and_the_library_are_of_one_version():
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert edition.version(ROOT) == metadata["project"]["version"]
