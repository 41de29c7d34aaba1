"""The ledger: every claim of the sources, and what was measured of it.

A claim is recorded with three numbers: what was *measured* (always a distance from what the claim
says, so that smaller is better), the *bound* that it must not exceed, and the *control*, the same
measure where an assumption is broken. The bound must hold, and the control must miss it: a check
that nothing could fail is no evidence.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import math
import os
import time
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from implicit_bias.evidence.stamp import versions

__all__ = ["Claim", "ClaimFailed", "ControlPassed", "Ledger", "ledger"]

_DIRECTORY = "IMPLICIT_BIAS_LEDGER"


class ClaimFailed(AssertionError):
    """The measure misses its bound: the claim does not hold here.

    Examples
    --------
    >>> Ledger().record("M24-T1", measured=1e-3, bound=1e-10, control=0.3)
    Traceback (most recent call last):
        ...
    implicit_bias.evidence.claims.ClaimFailed: M24-T1: measured 0.001 misses the bound 1e-10...
    """


class ControlPassed(AssertionError):
    """The control meets the bound too: the check cannot tell the claim from its opposite.

    Examples
    --------
    >>> Ledger().record("M24-T1", measured=1e-14, bound=1e-10, control=1e-12)
    Traceback (most recent call last):
        ...
    implicit_bias.evidence.claims.ControlPassed: M24-T1: control 1e-12 meets the bound 1e-10 ...
    """


@dataclass(frozen=True)
class Claim:
    """A statement of a source that the book makes executable.

    Attributes
    ----------
    id, source, number : str
        Its name in the book, the source's short name, the place there.
    chapter : int
    title, statement, assumptions, evidence : str
        In the book's words; ``evidence`` says what must be measured.
    correction : str
        What the source says wrongly and what holds instead; empty when it is right.
    errata : tuple of str
        Identifiers of the corrections on the errata page.
    section, code, test : str
        Anchor in the chapter, public name, and test; empty while the claim is open.
    measure, control : str
        What is measured, and what the control breaks, in words; empty while the claim is open.

    Examples
    --------
    >>> ledger.claims["P18-L2"].source
    'P18'
    """

    id: str
    source: str
    number: str
    chapter: int
    title: str
    statement: str
    assumptions: str
    evidence: str
    correction: str = ""
    errata: tuple[str, ...] = ()
    section: str = ""
    code: str = ""
    test: str = ""
    measure: str = ""
    control: str = ""


def _claims() -> dict[str, Claim]:
    text = (
        importlib.resources.files("implicit_bias.evidence")
        .joinpath("claims.toml")
        .read_text(encoding="utf-8")
    )
    entries = tomllib.loads(text)["claim"]
    return {e["id"]: Claim(**{**e, "errata": tuple(e.get("errata", ()))}) for e in entries}


def _show(value: float) -> str:
    return f"{value:.2g}"


class Table:
    """Rows of a ledger, shown as text, as Markdown or as HTML."""

    header = ("claim", "verdict", "measured", "bound", "control", "what")

    def __init__(self, rows: Iterable[tuple[str, ...]]):
        self.rows = list(rows)

    def __repr__(self) -> str:
        table = [self.header[:5], *[row[:5] for row in self.rows]]
        widths = [max(len(row[i]) for row in table) for i in range(5)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in table]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_markdown_(self) -> str:
        lines = ["| " + " | ".join(self.header) + " |", "|---|---|---|---|---|---|"]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        import html

        head = "".join(f'<th scope="col">{name}</th>' for name in self.header)
        body = "".join(
            f'<tr><th scope="row">{html.escape(row[0])}</th>'
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in self.rows
        )
        return (
            '<div class="ledger-rows" tabindex="0" role="group" aria-label="Claims of this '
            f'chapter"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )


class Ledger:
    """The claims, and what has been recorded of them in this process.

    Attributes
    ----------
    claims : dict of str to Claim
        All claims of the book, in the order of the chapters.
    records : dict of str to dict
        What was recorded here, by claim.

    Examples
    --------
    >>> len(Ledger().claims)
    91
    """

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self._clock = time.perf_counter()

    @functools.cached_property
    def claims(self) -> dict[str, Claim]:
        """All claims of the book by id, read when first asked for."""
        return _claims()

    def record(
        self,
        claim: str,
        *,
        measured: float,
        bound: float,
        control: float,
        what: str = "",
        control_what: str = "",
        refuted: bool = False,
    ) -> str:
        """Returns the verdict after recording the evidence for one claim.

        Parameters
        ----------
        claim : str
            Its id.
        measured : float
            Distance from what the claim says; at most ``bound``.
        bound : float
            The largest distance that still supports the claim.
        control : float
            The same measure with an assumption broken; must exceed ``bound``.
        what, control_what : str
            What was measured, and what the control breaks, in words; default the claim's own.
        refuted : bool
            True records that the source's claim is *false*: the measured distance must exceed
            the bound, and the control (where the claim would be true) must meet it.

        Raises
        ------
        ClaimFailed
            If the measure misses the bound.
        ControlPassed
            If the control meets it.
        KeyError, ValueError
            If there is no such claim, or a number is negative, infinite or NaN.

        Notes
        -----
        The verdict is "holds", "holds as corrected" (the claim has a correction) or "fails"
        (``refuted``). Where the environment variable IMPLICIT_BIAS_LEDGER names a folder, the
        record is also written there.

        Examples
        --------
        >>> Ledger().record("M24-T1", measured=1e-14, bound=1e-10, control=0.3)
        'holds'
        """
        if claim not in self.claims:
            raise KeyError(
                f"There is no claim {claim!r} in the ledger, so nothing would show the evidence. "
                f"Ids look like 'M24-T1'; ledger.claims lists all {len(self.claims)}."
            )
        known = self.claims[claim]
        what, control_what = what or known.measure, control_what or known.control
        measured, bound, control = float(measured), float(bound), float(control)
        # Evidence that fails must not leave older evidence standing.
        self.records.pop(claim, None)
        folder = os.environ.get(_DIRECTORY)
        if folder:
            (FilePath(folder) / f"{claim}.json").unlink(missing_ok=True)
        if not all(math.isfinite(value) and value >= 0 for value in (measured, bound, control)):
            raise ValueError(
                f"{claim}: measured = {measured}, bound = {bound}, control = {control}. A distance "
                f"is finite and not negative; NaN or infinity is a run that broke, not a "
                f"measurement. Take an absolute value, or find where it broke."
            )
        holds, fails = ("control", "measured") if refuted else ("measured", "control")
        values = {"measured": measured, "control": control}
        # Not meeting its bound is a failure of the evidence, whichever side it is on.
        if not values[holds] <= bound:
            raise ClaimFailed(
                f"{claim}: {holds} {values[holds]:.3g} misses the bound {bound:.3g}"
                f"{f' ({what})' if what else ''}. Either the claim is false here, or an "
                f"assumption is: {known.assumptions}"
            )
        if not values[fails] > bound:
            raise ControlPassed(
                f"{claim}: {fails} {values[fails]:.3g} meets the bound {bound:.3g} too"
                f"{f' ({control_what})' if control_what else ''}, so the check shows nothing. "
                f"Break an assumption that matters, or sharpen the measure."
            )
        verdict = "fails" if refuted else "holds as corrected" if known.correction else "holds"
        now = time.perf_counter()
        entry = {
            "id": claim,
            "chapter": known.chapter,
            "verdict": verdict,
            "measured": measured,
            "bound": bound,
            "control": control,
            "what": what,
            "control_what": control_what,
            "seconds": round(now - self._clock, 3),
            "versions": versions(),
        }
        self._clock = now
        self.records[claim] = entry
        if folder:
            _write(FilePath(folder), entry)
        return verdict

    def _chosen(self, chapter: int | None, only: Iterable[str] | None) -> list[Claim]:
        names = set(self.claims) if only is None else set(only)
        if unknown := sorted(names - set(self.claims)):
            raise KeyError(f"There is no claim {unknown} in the ledger; ledger.claims lists them.")
        return [c for c in self.claims.values() if c.id in names and chapter in (None, c.chapter)]

    def open(self, chapter: int | None = None, only: Iterable[str] | None = None) -> list[str]:
        """Returns the ids of the claims (of one chapter) without a record here.

        Parameters
        ----------
        chapter : int, optional
            Default: all chapters.
        only : iterable of str, optional
            The claims to look at, where a chapter is told in more than one notebook.

        Raises
        ------
        KeyError
            If ``only`` names a claim that there is not.

        Examples
        --------
        >>> len(Ledger().open(chapter=1))
        11
        """
        return [c.id for c in self._chosen(chapter, only) if c.id not in self.records]

    def table(self, chapter: int | None = None, only: Iterable[str] | None = None) -> Table:
        """Returns the claims (of one chapter) with their verdicts, for display.

        Parameters
        ----------
        chapter : int, optional
            Default: all chapters.
        only : iterable of str, optional
            The claims to show, where a chapter is told in more than one notebook.

        Raises
        ------
        KeyError
            If ``only`` names a claim that there is not.

        Examples
        --------
        >>> print(str(Ledger().table(chapter=1)).splitlines()[1])
        M24-T1    open
        """
        rows = []
        for claim in self._chosen(chapter, only):
            r = self.records.get(claim.id)
            if r is None:
                rows.append((claim.id, "open", "", "", "", claim.title))
            else:
                numbers = (_show(r["measured"]), _show(r["bound"]), _show(r["control"]))
                rows.append((claim.id, r["verdict"], *numbers, r["what"] or claim.title))
        return Table(rows)

    @staticmethod
    def read(folder: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
        """Returns the records written to a folder, by claim id; empty if there is none.

        Examples
        --------
        >>> Ledger.read("no-such-folder")
        {}
        """
        files = sorted(FilePath(folder).glob("*.json"))
        entries = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        return {entry["id"]: entry for entry in entries}


def _write(folder: FilePath, entry: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Written whole or not at all: a killed notebook must not leave half a record.
    partial = folder / f".{entry['id']}.{os.getpid()}"
    partial.write_text(json.dumps(entry, indent=1), encoding="utf-8")
    partial.replace(folder / f"{entry['id']}.json")


ledger = Ledger()
