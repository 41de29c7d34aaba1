"""The ten lines of the README run as they stand, and print what they say they print."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_block_runs_and_the_distance_is_tiny(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 1, "the README shows one piece of Python"
    assert len(blocks[0].strip().splitlines()) <= 10
    exec(compile(blocks[0], "README.md", "exec"), {"__name__": "__main__"})
    distance, other = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines())
    assert distance < 1e-10
    assert other > 0.1, "the control: from another start descent must end elsewhere"


def test_its_links_lead_to_files():
    text = README.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text) + re.findall(r'src="([^"]+)"', text)
    missing = [target for target in targets if not (README.parent / target).exists()]
    assert not missing


def test_every_target_of_make_is_named():
    named = set(
        re.findall(r"^(?:make |\| `make )([a-z]+)", README.read_text(encoding="utf-8"), re.M)
    )
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.*## ", makefile, re.M))
    assert named == targets - {"setup"}
