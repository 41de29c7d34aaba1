"""The ledger: loud where evidence is missing, and true about what it points to."""

import ast
import json
import math
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import implicit_bias
import pytest
from implicit_bias import ClaimFailed, ControlPassed, Ledger, ledger

ROOT = Path(__file__).resolve().parents[3]
CLAIMS = ledger.claims
CORRECTIONS = tomllib.loads(
    (ROOT / "lib/implicit_bias/evidence/corrections.toml").read_text(encoding="utf-8")
)["correction"]
GOOD = {"measured": 1e-14, "bound": 1e-10, "control": 0.3}


@pytest.fixture
def book(monkeypatch):
    monkeypatch.delenv("IMPLICIT_BIAS_LEDGER", raising=False)
    return Ledger()


# ---- recording


def test_evidence_is_recorded(book):
    assert book.record("M24-T1", **GOOD, what="distance", control_what="Adam") == "holds"
    entry = book.records["M24-T1"]
    assert {k: entry[k] for k in GOOD} == GOOD
    assert (entry["id"], entry["chapter"], entry["verdict"]) == ("M24-T1", 1, "holds")
    assert (entry["what"], entry["control_what"]) == ("distance", "Adam")
    assert entry["seconds"] >= 0
    assert {"python", "numpy", "scipy", "torch"} <= set(entry["versions"])


def test_a_corrected_claim_holds_as_corrected(book):
    corrected = next(c for c in CLAIMS.values() if c.correction)
    assert book.record(corrected.id, **GOOD) == "holds as corrected"


def test_bounds_are_inclusive_and_controls_strict(book):
    assert book.record("M24-T1", measured=0.5, bound=0.5, control=0.6) == "holds"
    with pytest.raises(ControlPassed):
        book.record("M24-T1", measured=0.5, bound=0.5, control=0.5)


def test_a_missed_bound_fails_loudly(book):
    with pytest.raises(
        ClaimFailed,
        match=r"(?s)M24-T1: measured 0.2 misses the bound 1e-10 \(distance\).*assumption is: ",
    ):
        book.record("M24-T1", measured=0.2, bound=1e-10, control=0.3, what="distance")
    assert not book.records


def test_a_control_that_passes_fails_loudly(book):
    with pytest.raises(
        ControlPassed,
        match=r"control 1e-12 meets the bound 1e-10 too \(Adam\).*shows nothing.*Break an assum",
    ):
        book.record("M24-T1", measured=0, bound=1e-10, control=1e-12, control_what="Adam")
    assert not book.records


@pytest.mark.parametrize("broken", ["measured", "bound", "control"])
def test_what_is_not_a_distance_is_refused(book, broken):
    for value in (math.nan, math.inf, -1e-3):
        with pytest.raises(ValueError, match=r"finite and not negative.*absolute value"):
            book.record("M24-T1", **{**GOOD, broken: value})
    assert not book.records


def test_failed_evidence_leaves_no_older_evidence(book, tmp_path, monkeypatch):
    monkeypatch.setenv("IMPLICIT_BIAS_LEDGER", str(tmp_path))
    book.record("M24-T1", **GOOD)
    with pytest.raises(ClaimFailed):
        book.record("M24-T1", **{**GOOD, "measured": 1.0})
    assert not book.records
    assert not Ledger.read(tmp_path)


def test_an_unknown_claim_is_refused(book):
    with pytest.raises(KeyError, match=r"no claim 'M24-T99'.*Ids look like.*lists all 91"):
        book.record("M24-T99", **GOOD)


def test_a_refuted_claim_swaps_the_roles(book):
    assert book.record("M24-T1", measured=0.3, bound=0.1, control=0.0, refuted=True) == "fails"
    with pytest.raises(ClaimFailed, match=r"control 0.3 misses"):
        book.record("M24-T1", measured=0.3, bound=0.1, control=0.3, refuted=True)
    with pytest.raises(ControlPassed, match=r"measured 0.05 meets"):
        book.record("M24-T1", measured=0.05, bound=0.1, control=0.0, refuted=True)


def test_failures_are_assertions():
    assert issubclass(ClaimFailed, AssertionError)
    assert issubclass(ControlPassed, AssertionError)


# ---- files


def test_records_are_written_where_the_environment_says(book, tmp_path, monkeypatch):
    folder = tmp_path / "new" / "ledger"
    monkeypatch.setenv("IMPLICIT_BIAS_LEDGER", str(folder))
    book.record("M24-T1", **GOOD)
    book.record("P18-L2", **{**GOOD, "measured": 0.0})
    book.record("M24-T1", **{**GOOD, "measured": 2e-14})  # the last one counts
    assert sorted(p.name for p in folder.iterdir()) == ["M24-T1.json", "P18-L2.json"]
    assert json.loads((folder / "M24-T1.json").read_text()) == book.records["M24-T1"]
    assert Ledger.read(folder) == book.records
    assert Ledger.read(tmp_path / "nowhere") == {}


def test_what_fails_is_not_written(book, tmp_path, monkeypatch):
    monkeypatch.setenv("IMPLICIT_BIAS_LEDGER", str(tmp_path))
    with pytest.raises(ClaimFailed):
        book.record("M24-T1", measured=1.0, bound=0.1, control=2.0)
    assert not list(tmp_path.iterdir())


def test_files_are_written_whole_or_not_at_all(book, tmp_path, monkeypatch):
    monkeypatch.setenv("IMPLICIT_BIAS_LEDGER", str(tmp_path))

    def killed(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        book.record("M24-T1", **{**GOOD, "measured": 0.0})
    assert not Ledger.read(tmp_path)  # a leftover is not read


# ---- tables


def test_open_claims_and_tables(book):
    chapter = [c.id for c in CLAIMS.values() if c.chapter == 1]
    assert book.open(1) == chapter
    assert len(book.open()) == 91
    book.record(chapter[0], **GOOD, what="a < b & c")
    assert book.open(1) == chapter[1:]
    table = book.table(1)
    text = repr(table).splitlines()
    assert len(text) == 12
    assert text[1].split() == [chapter[0], "holds", "1e-14", "1e-10", "0.3"]
    assert text[2].split() == [chapter[1], "open"]
    markdown = table._repr_markdown_().splitlines()
    assert len(markdown) == 13
    assert {line.count("|") for line in markdown} == {7}
    page = table._repr_html_()
    assert page.count("<tr>") == 12
    assert "a &lt; b &amp; c" in page
    assert len(book.table().rows) == 91
    # A chapter that is told in two notebooks shows its claims in two tables.
    assert book.open(1, only=chapter[:2]) == chapter[1:2]
    assert [row[0] for row in book.table(only=chapter[:2]).rows] == chapter[:2]
    assert book.open(2, only=chapter) == []
    for ask in (book.open, book.table):
        with pytest.raises(KeyError, match=r"no claim.*M24-T0"):
            ask(only=["M24-T0"])


# ---- the data


def test_there_are_ninety_one_claims():
    assert len(CLAIMS) == 91
    assert [c.chapter for c in CLAIMS.values()].count(1) == 11
    assert {c.source for c in CLAIMS.values()} == {"M24", "P18", "G18", "L19"}
    chapters = [c.chapter for c in CLAIMS.values()]
    assert chapters == sorted(chapters)
    assert set(chapters) <= set(range(1, 8))


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda c: c.id)
def test_a_claim_is_complete(claim):
    assert claim.id.startswith(f"{claim.source}-")
    assert re.fullmatch(r"[\w.-]+", claim.id)  # it names a file
    for text in (claim.number, claim.title, claim.statement, claim.assumptions, claim.evidence):
        assert text.strip()
        assert text.count("$") % 2 == 0
    assert len(claim.title) <= 60


def test_corrections_and_claims_name_each_other():
    known = {entry["id"]: entry for entry in CORRECTIONS}
    assert len(known) == len(CORRECTIONS)
    for claim in CLAIMS.values():
        for name in claim.errata:
            assert claim.id in known[name]["claims"], name
    for name, entry in known.items():
        for claim in entry["claims"]:
            assert name in CLAIMS[claim].errata, claim
        assert {"source", "where", "says", "holds", "chapter"} <= set(entry), name


SHOWN = [c for c in CLAIMS.values() if c.test or c.code]


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    "claim", [c for c in CLAIMS.values() if c.chapter == 1], ids=lambda c: c.id
)
def test_chapter_one_points_to_all_its_evidence(claim):
    assert claim.section
    assert claim.code
    assert claim.test


@pytest.mark.parametrize("claim", SHOWN, ids=lambda c: c.id)
def test_what_a_claim_points_to_exists(claim):
    for name in claim.code.replace(",", " ").split():
        thing = implicit_bias
        for part in name.removeprefix("implicit_bias.").split("."):
            thing = getattr(thing, part)
    for test in claim.test.replace(",", " ").split():
        path, _, name = test.partition("::")
        assert name in functions(ROOT / path), test
    parts = sorted((ROOT / "notebooks").glob(f"{claim.chapter:02d}_*.ipynb"))
    notebooks = [json.loads(part.read_text(encoding="utf-8")) for part in parts]
    cells = [cell for notebook in notebooks for cell in notebook["cells"]]
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    anchor = re.escape(claim.section)
    assert re.search(rf'\bid="{anchor}"|^\({anchor}\)=', text, re.MULTILINE), claim.section


def test_the_claims_are_data_of_the_package():
    """They are found wherever the package is, not only in this repository."""
    done = subprocess.run(
        [sys.executable, "-c", "from implicit_bias import ledger; print(len(ledger.claims))"],
        cwd="/",
        env={"PYTHONPATH": str(ROOT / "lib")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "91"
