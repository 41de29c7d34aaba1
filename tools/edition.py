"""Which edition of the book this is: the version in CITATION.cff and the day of the last commit.

The same commit gives the same words on every machine: the day is the commit's own, never that of
the build. A copy without git has no day, unless SOURCE_DATE_EPOCH names one, as reproducible
builds do.
"""

from __future__ import annotations

import os
import re
import subprocess
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class NoVersion(ValueError):
    """CITATION.cff names no version."""


def version(root: Path = ROOT) -> str:
    """The version of the book."""
    text = (root / "CITATION.cff").read_text(encoding="utf-8")
    match = re.search(r"^version:\s*[\"']?([^\s\"']+)", text, re.M)
    if not match:
        raise NoVersion(
            "CITATION.cff names no version, and every page states one in its footer. "
            "Add a line such as `version: 0.1.0`."
        )
    return match.group(1)


def day(root: Path = ROOT) -> date | None:
    """The day of the last commit (of SOURCE_DATE_EPOCH, if that is set); None without git."""
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        return datetime.fromtimestamp(int(epoch), UTC).date()

    def git(*words: str) -> str:
        run = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    try:
        # A copy inside another repository is not of that repository's day.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return None
        return date.fromisoformat(git("log", "-1", "--format=%cs"))
    except (OSError, subprocess.CalledProcessError):
        return None


def edition(root: Path = ROOT) -> str:
    """Version and day in words: Version 0.1.0, 22 November 2026."""
    when = day(root)
    words = f"Version {version(root)}"
    return f"{words}, {when.day} {when:%B %Y}" if when else words
