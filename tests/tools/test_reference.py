"""The reference page names everything that is public, and nothing else."""

import re
from pathlib import Path

import implicit_bias

PAGE = Path(__file__).resolve().parents[2] / "book" / "reference.md"
NAMED = re.compile(
    r"^\.\. (?:auto|py:)(?:class|function|exception|data|module):+ implicit_bias\.(\w+)(?:\(\))?$",
    re.M,
)


def test_every_public_name_is_on_the_page_once():
    named = NAMED.findall(PAGE.read_text(encoding="utf-8"))
    assert sorted(named) == sorted(implicit_bias.__all__)
