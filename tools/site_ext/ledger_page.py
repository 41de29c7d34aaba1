"""Sphinx directives for the ledger and the errata pages.

``{ledger-table}`` lists every claim of the book with the evidence recorded for it,
``{errata-table}`` every correction. What is claimed comes from ``claims.toml`` and
``corrections.toml`` in the package; what is measured comes from the records that the notebooks
leave in ``_build/ledger`` while the book is built. So the tables are filled in when the pages are
written, after the last notebook has run, and the pages are written again at every build.

The data files are read as they lie in the source tree: this module imports nothing of the
package, and so no torch. Everything that does not fit together is a warning, and so an error in
the gate: a record of a claim that nobody made, a claim whose chapter left no record, a section,
function or test that does not exist.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)
HERE = Path(__file__).parent
MATH = "math notranslate nohighlight"
VERDICTS = ("holds", "holds as corrected", "fails", "open")
MEANINGS = {
    "holds": "measured within its bound, while the control misses it",
    "holds as corrected": "the source states it wrongly; the corrected statement is measured",
    "fails": "measured, and false",
    "open": "no chapter has recorded evidence yet",
}
SOURCES = {
    "M24": "Montúfar 2024",
    "G18": "Gunasekar and others 2018",
    "P18": "Poggio and others 2018",
    "L19": "Liao and others 2019",
}


class table_placeholder(nodes.General, nodes.Element):
    """Where a table will stand once every notebook has run; ``kind`` says which table."""


class TableDirective(SphinxDirective):
    has_content = False

    def run(self) -> list[nodes.Node]:
        kind = self.name.removesuffix("-table")
        pages(self.env).setdefault(kind, []).append(self.env.docname)
        return [table_placeholder(kind=kind)]


def pages(env: BuildEnvironment) -> dict[str, list[str]]:
    """The documents that hold each kind of table, kept with the environment between builds."""
    if not hasattr(env, "ledger_pages"):
        env.ledger_pages = {}  # type: ignore[attr-defined]
    return env.ledger_pages


# --------------------------------------------------------------------------- what is known


@dataclass
class Ledger:
    """Claims, corrections and records, joined. ``problems`` says what does not fit."""

    claims: dict[str, dict[str, Any]]
    corrections: dict[str, dict[str, Any]]
    records: dict[str, dict[str, Any]]
    problems: list[str] = field(default_factory=list)

    def verdict(self, claim_id: str) -> str:
        return self.records[claim_id]["verdict"] if claim_id in self.records else "open"


def read_tables(path: Path, key: str) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get(key, [])
    return {entry["id"]: entry for entry in entries}


def load(root: Path, records: Path) -> Ledger:
    """Read the claims below ``root`` and the records in the folder ``records``."""
    evidence = root / "lib" / "implicit_bias" / "evidence"
    ledger = Ledger(
        claims=read_tables(evidence / "claims.toml", "claim"),
        corrections=read_tables(evidence / "corrections.toml", "correction"),
        records={},
    )
    say = ledger.problems.append
    if not ledger.claims:
        say(f"no claims in {evidence / 'claims.toml'}")
    for path in sorted(records.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        claim_id = record.get("id", path.stem)
        if claim_id not in ledger.claims:
            say(f"record of an unknown claim: {claim_id}; add it to claims.toml")
        elif record.get("verdict") not in VERDICTS[:3]:
            say(f"record of {claim_id} has an unknown verdict: {record.get('verdict')}")
        else:
            ledger.records[claim_id] = record
    for claim_id, claim in ledger.claims.items():
        if claim.get("section") and claim_id not in ledger.records:
            say(f"claim {claim_id} names the section that shows it, but no notebook recorded it")
        if claim_id in ledger.records and not claim.get("section"):
            say(f"claim {claim_id} is recorded, but claims.toml names no section that shows it")
        for erratum in claim.get("errata", []):
            if erratum not in ledger.corrections:
                say(f"claim {claim_id} names an unknown correction: {erratum}")
        if claim.get("test"):
            path, _, name = claim["test"].partition("::")
            file = root / path
            function = name.rpartition("::")[2].partition("[")[0]
            if not file.exists():
                say(f"claim {claim_id} names a test file that does not exist: {path}")
            elif function and not re.search(
                rf"\b(def|class) {re.escape(function)}\b", file.read_text(encoding="utf-8")
            ):
                say(f"claim {claim_id} names a test that {path} does not hold: {function}")
    for erratum, correction in ledger.corrections.items():
        for claim_id in correction.get("claims", []):
            if claim_id not in ledger.claims:
                say(f"correction {erratum} names an unknown claim: {claim_id}")
    return ledger


def as_json(ledger: Ledger) -> str:
    """All claims with what was recorded for them, as a JSON list."""
    rows = []
    for claim_id, claim in ledger.claims.items():
        record = ledger.records.get(claim_id, {})
        row = {"id": claim_id, "source": claim["source"], "number": claim["number"]}
        row |= {"chapter": claim["chapter"], "title": claim["title"]}
        row |= {"verdict": ledger.verdict(claim_id)}
        row |= {
            key: record.get(key) for key in ("measured", "bound", "control", "seconds", "versions")
        }
        rows.append(row)
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


# --------------------------------------------------------------------------- how it is written


def pieces(tex: str) -> list[str]:
    """Long inline TeX, cut before its outermost equality signs, so that lines can break there."""
    if len(tex) < 30 or "&" in tex:
        return [tex]
    out, depth = [""], 0
    for token in re.findall(r"\\[A-Za-z]+|\\.|.", tex, re.DOTALL):
        depth += (token in "({[" or token in (r"\{", r"\left")) - (
            token in ")}]" or token in (r"\}", r"\right")
        )
        if token == "=" and depth == 0 and out[-1].strip():
            out.append("")
        out[-1] += token
    return [piece.strip() for piece in out]


def prose(text: str) -> str:
    """Plain text with ``$...$`` mathematics as HTML that MathJax typesets."""
    out = ""
    # A formula, and the punctuation that must not fall on the next line alone.
    for words, tex, after in re.findall(r"([^$]*)(?:\$([^$]*)\$([.,;:!?)]*))?", text.strip()):
        out += escape(words, quote=False)
        if tex:
            spans = [
                f'<span class="{MATH}">\\({escape(p, quote=False)}\\)</span>' for p in pieces(tex)
            ]
            spans[-1] = f'<span class="keep">{spans[-1]}{after}</span>' if after else spans[-1]
            out += " ".join(spans)
    return out


def figure(value: float | None) -> str:
    """A measured number for reading: four digits, or two and a power of ten."""
    if value is None:
        return "none"
    value = float(value)
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.4g}"
    if value != value or abs(value) == float("inf"):
        return {"inf": "infinite", "-inf": "minus infinity"}.get(str(value), "not a number")
    mantissa, exponent = f"{value:.1e}".split("e")
    power = f"10<sup>{int(exponent)}</sup>".replace("-", "−")
    return power if mantissa == "1.0" else f"{mantissa} × {power}"


def link(address: str, text: str, label: str = "") -> str:
    described = f' aria-label="{escape(label)}"' if label else ""
    return f'<a class="reference" href="{escape(address)}"{described}>{text}</a>'


def anchor(kind: str, name: str) -> str:
    """The place of a claim or an erratum on its page; the theme's scripts choke on a dot."""
    return f"{kind}-{name.replace('.', '-')}"


def badge(verdict: str) -> str:
    return f'<span class="verdict verdict-{verdict.replace(" ", "-")}">{verdict}</span>'


def head(*names: str) -> str:
    cells = "".join(f'<th role="columnheader" scope="col">{name}</th>' for name in names)
    return f'<thead role="rowgroup"><tr role="row">{cells}</tr></thead>'


def choice(label: str, values: dict[str, tuple[str, int]]) -> str:
    """A labelled list to choose one value from, or all."""
    name = f"ledger-{label.lower()}"
    total = sum(n for _, n in values.values())
    options = [f'<option value="">all ({total})</option>']
    options += [f'<option value="{key}">{text} ({n})</option>' for key, (text, n) in values.items()]
    return (
        f'<span><label for="{name}">{label}</label>\n'
        f'<select id="{name}">{"".join(options)}</select></span>'
    )


class Writer:
    """Writes the two tables as HTML for one page of the book."""

    def __init__(self, app: Sphinx, docname: str, ledger: Ledger) -> None:
        self.app, self.env, self.docname, self.ledger = app, app.env, docname, ledger
        options = app.config.html_theme_options
        self.repository = str(options.get("repository_url", "")).rstrip("/")
        self.branch = options.get("repository_branch") or "main"

    def warn(self, problem: str) -> None:
        logger.warning("ledger: %s", problem, location=self.docname)

    def page(self, docname: str, place: str = "") -> str:
        """A relative address of another page of the book (or of a place on it)."""
        if docname == self.docname and place:
            return f"#{place}"
        address = self.app.builder.get_relative_uri(self.docname, docname)
        return f"{address}#{place}" if place else address

    def source_file(self, path: str) -> str:
        return f"{self.repository}/blob/{self.branch}/{path.partition('::')[0]}"

    def documents(self, number: int) -> list[str]:
        """The documents of a chapter, in the order of their names; none while it is to come."""
        prefix = f"notebooks/{number:02d}_"
        return sorted(name for name in self.env.found_docs if name.startswith(prefix))

    def document(self, number: int) -> str | None:
        """The first document of a chapter, or None while it is to come."""
        return next(iter(self.documents(number)), None)

    def chapter(self, number: int, word: str = "chapter") -> str:
        """The chapter's number, linked to the chapter where there is one."""
        docname = self.document(number)
        if docname is None:
            return f"{word} {number}"
        return link(self.page(docname), f"{word} {number}")

    def section(self, claim: dict[str, Any]) -> str:
        """The address of the section that shows a claim: a MyST target, or an HTML anchor."""
        target = claim["section"]
        labels = self.env.get_domain("std").anonlabels  # type: ignore[attr-defined]
        if target in labels:
            return self.page(*labels[target])
        for docname in self.documents(claim["chapter"]):
            source = Path(self.env.doc2path(docname)).read_text(encoding="utf-8")
            if f'id="{target}"' in source.replace('\\"', '"'):
                return self.page(docname, target)
        self.warn(f"claim {claim['id']} names a section that the book does not hold: {target}")
        return "#" + anchor("claim", claim["id"])

    def code(self, claim: dict[str, Any]) -> list[str]:
        names = claim.get("code", [])
        out = []
        for name in [names] if isinstance(names, str) else names:
            if "/" in name:
                if not (Path(self.app.srcdir) / name).exists():
                    self.warn(f"claim {claim['id']} names code that does not exist: {name}")
                out.append(link(self.source_file(name), f"<code>{escape(name)}</code>"))
                continue
            known = self.env.get_domain("py").objects  # type: ignore[attr-defined]
            place = known.get(name)
            if place is None:  # a public name may be described where it is defined
                last = "." + name.rpartition(".")[2]
                same = [entry for full, entry in known.items() if full.endswith(last)]
                place = same[0] if len(same) == 1 else None
            if place is None:
                self.warn(f"claim {claim['id']} names code that the reference lacks: {name}")
                out.append(f"<code>{escape(name)}</code>")
                continue
            short = f"<code>{escape(name.removeprefix('implicit_bias.'))}</code>"
            out.append(link(self.page(place.docname, place.node_id), short))
        return out

    def evidence(self, claim: dict[str, Any]) -> str:
        """Measured, bound and control of one claim, or where they are to come from."""
        record = self.ledger.records.get(claim["id"])
        if record is None:
            return f"<p>To be shown in {self.chapter(claim['chapter'])}.</p>"
        rows = [
            ("measured", record.get("measured"), record.get("what", "")),
            ("bound", record.get("bound"), ""),
            ("control", record.get("control"), record.get("control_what", "")),
        ]
        return (
            "<dl>"
            + "".join(
                f"<div><dt>{name}</dt><dd><b>{figure(value)}</b>"
                + (f" <span>{prose(words)}</span>" if words else "")
                + "</dd></div>"
                for name, value, words in rows
            )
            + "</dl>"
        )

    def links(self, claim: dict[str, Any]) -> str:
        out = []
        if claim.get("section"):
            out.append(link(self.section(claim), "section", f"section that shows {claim['id']}"))
        out += self.code(claim)
        if claim.get("test"):
            out.append(link(self.source_file(claim["test"]), "test", f"test of {claim['id']}"))
        return f'<p class="claim-links">{" · ".join(out)}</p>' if out else ""

    def claim_row(self, claim: dict[str, Any]) -> str:
        claim_id, verdict = claim["id"], self.ledger.verdict(claim["id"])
        place = anchor("claim", claim_id)
        details = f"<p><b>Assumptions.</b> {prose(claim.get('assumptions') or 'None.')}</p>"
        details += f"<p><b>Evidence asked for.</b> {prose(claim.get('evidence', ''))}</p>"
        correction = ""
        if claim.get("correction"):
            correction = '<p class="claim-correction"><b>Correction.</b> '
            correction += prose(claim["correction"])
            places = [
                link(self.page(docname, anchor("erratum", erratum)), erratum)
                for docname in pages(self.env).get("errata", [])[:1]
                for erratum in claim.get("errata", [])
            ]
            correction += (f" See {', '.join(places)}." if places else "") + "</p>"
        return f"""
<tr role="row" id="{place}" data-source="{claim["source"]}" data-verdict="{verdict}">
<th role="rowheader" scope="row"><p class="claim-id">{link("#" + place, claim_id)}
<span>{claim["source"]}, {prose(claim["number"])}</span></p>
<p class="claim-title">{prose(claim["title"])}</p>
<p>{prose(claim["statement"])}</p>{correction}
<details>
<summary>Assumptions and evidence<span class="visually-hidden"> of {claim_id}</span></summary>
{details}</details>
{self.links(claim)}</th>
<td role="cell" data-label="Verdict">{badge(verdict)}</td>
<td role="cell" data-label="Evidence">{self.evidence(claim)}</td>
</tr>"""

    def ledger_table(self) -> str:
        claims = self.ledger.claims.values()
        verdicts = Counter(self.ledger.verdict(claim["id"]) for claim in claims)
        sources = Counter(claim["source"] for claim in claims)
        counts = "".join(
            f"<li>{badge(v)} <b>{verdicts[v]}</b> <span>{MEANINGS[v]}</span></li>" for v in VERDICTS
        )
        bodies = ""
        for number in sorted({claim["chapter"] for claim in claims}):
            rows = [self.claim_row(claim) for claim in claims if claim["chapter"] == number]
            bodies += self.group(number, rows, columns=3)
        return f"""
<ul class="ledger-counts">{counts}</ul>
<form class="ledger-filter" hidden>
{choice("Source", {s: (f"{s}, {SOURCES.get(s, s)}", n) for s, n in sources.items()})}
{choice("Verdict", {v: (v, verdicts[v]) for v in VERDICTS})}
<output id="ledger-shown" aria-live="polite">{len(claims)} claims</output>
</form>
<p><a class="reference" href="{self.top}ledger.json" download>This table as JSON</a></p>
<table class="ledger" role="table" id="ledger-table">
<caption>The {len(claims)} claims of the book, by chapter.</caption>
{head("Claim", "Verdict", "Evidence")}
{bodies}
</table>
<script>{(HERE / "ledger.js").read_text(encoding="utf-8")}</script>
"""

    @property
    def top(self) -> str:
        return "../" * self.docname.count("/")

    def group(self, number: int, rows: list[str], columns: int) -> str:
        """The rows of one chapter under its name."""
        name = self.chapter(number, "Chapter")
        return f"""
<tbody role="rowgroup">
<tr role="row" class="ledger-chapter">
<th role="rowheader" colspan="{columns}" scope="rowgroup">{name}</th></tr>
{"".join(rows)}
</tbody>"""

    def shown(self, correction: dict[str, Any]) -> str:
        """The claims that a correction touches, and what was measured for them."""
        out = []
        for docname in pages(self.env).get("ledger", [])[:1]:
            for claim_id in correction.get("claims", []):
                claim = self.ledger.claims.get(claim_id)
                if claim is None:
                    continue
                to_ledger = link(self.page(docname, anchor("claim", claim_id)), claim_id)
                record = self.ledger.records.get(claim_id)
                if record is None:
                    where = self.chapter(claim["chapter"])
                    out.append(f"<p>{to_ledger}: to be shown in {where}.</p>")
                    continue
                shown = link(self.section(claim), "section", f"section that shows {claim_id}")
                numbers = ", ".join(
                    f"{name} <b>{figure(record.get(name))}</b>"
                    for name in ("measured", "bound", "control")
                )
                out.append(f"<p>{to_ledger} ({record['verdict']}, {shown}): {numbers}.</p>")
        return "".join(out) or f"<p>To be shown in {self.chapter(correction['chapter'])}.</p>"

    def errata_table(self) -> str:
        corrections = self.ledger.corrections.values()
        bodies = ""
        for number in sorted({entry["chapter"] for entry in corrections}):
            rows = [self.correction_row(e) for e in corrections if e["chapter"] == number]
            bodies += self.group(number, rows, columns=2)
        return f"""
<table class="ledger errata" role="table" id="errata-table">
<caption>The {len(corrections)} corrections, by the chapter that shows them.</caption>
{head("Correction", "The claims it touches")}
{bodies}
</table>
"""

    def correction_row(self, entry: dict[str, Any]) -> str:
        place = anchor("erratum", entry["id"])
        return f"""
<tr role="row" id="{place}">
<th role="rowheader" scope="row"><p class="claim-id">{link("#" + place, entry["id"])}
<span>{entry["source"]}, {prose(entry["where"])}</span></p>
<p><b>The source.</b> {prose(entry["says"])}</p>
<p class="claim-correction"><b>What holds.</b> {prose(entry["holds"])}</p></th>
<td role="cell" data-label="The claims it touches">{self.shown(entry)}</td>
</tr>"""


# --------------------------------------------------------------------------- when it is written


def load_all(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """All notebooks have run: read what they recorded, and write the pages again."""
    default = Path(app.outdir).parent / "ledger"
    env_folder = os.environ.get("IMPLICIT_BIAS_LEDGER")
    app.ledger = load(Path(app.srcdir), Path(env_folder) if env_folder else default)  # type: ignore
    docnames = sorted({name for names in pages(env).values() for name in names})
    for problem in app.ledger.problems if docnames else []:  # type: ignore[attr-defined]
        logger.warning("ledger: %s", problem)
    return docnames


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for node in list(doctree.findall(table_placeholder)):
        writer = Writer(app, docname, app.ledger)  # type: ignore[attr-defined]
        html = getattr(writer, f"{node['kind']}_table")()
        node.replace_self(nodes.raw("", html, format="html"))


def add_style(app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    if any(page in names for names in pages(app.env).values()):
        style = (HERE / "ledger.css").read_text(encoding="utf-8")
        context["metatags"] = context.get("metatags", "") + f"\n<style>{style}</style>"


def write_json(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html" and hasattr(app, "ledger"):
        text = as_json(app.ledger)
        for folder in (Path(app.outdir).parent, Path(app.outdir)):
            (folder / "ledger.json").write_text(text, encoding="utf-8")


def purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    for names in pages(env).values():
        while docname in names:
            names.remove(docname)


def merge(app: Sphinx, env: BuildEnvironment, docnames: set[str], other: BuildEnvironment) -> None:
    for kind, names in pages(other).items():
        mine = pages(env).setdefault(kind, [])
        mine += [name for name in names if name in docnames and name not in mine]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_node(table_placeholder)
    app.add_directive("ledger-table", TableDirective)
    app.add_directive("errata-table", TableDirective)
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("env-updated", load_all)
    app.connect("doctree-resolved", fill)
    app.connect("html-page-context", add_style)
    app.connect("build-finished", write_json)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
