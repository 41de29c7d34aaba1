"""Change the repository's address everywhere at once.

    python tools/rehome.py https://github.com/someone/some-book

The address stands in ``_config.yml`` under ``repository: url``. Files that cannot read it from
there (a notebook's install cell, a badge, package metadata) repeat it: this script rewrites them
all, with the address of the site on GitHub Pages. It needs nothing but Python's own library.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = re.compile(r"https://github\.com/([A-Za-z0-9][\w-]*)/([\w.-]+?)(?:\.git)?/?")
SKIP = {".git", ".venv", ".venv-colab", "_build", "__pycache__"}


class BadAddress(ValueError):
    """The address is not that of a GitHub repository."""


def parse(url: str) -> tuple[str, str]:
    """Owner and name in the address of a GitHub repository."""
    match = ADDRESS.fullmatch(url.strip())
    if not match:
        raise BadAddress(
            f"{url!r} is not the address of a GitHub repository. Links to source, to Colab and to "
            "Pages are made from it.\nGive it as https://github.com/OWNER/NAME."
        )
    return match.group(1), match.group(2)


def current(root: Path = ROOT) -> str:
    """The repository's address, from its one place."""
    text = (root / "_config.yml").read_text(encoding="utf-8")
    match = re.search(
        r"^repository:\s*\n(?:[ \t]+.*\n|[ \t]*#.*\n)*?[ \t]+url\s*:\s*(\S+)", text, re.M
    )
    if not match:
        raise BadAddress("_config.yml names no repository. Add `repository:` with a line `url:`.")
    return match.group(1).strip("\"'")


def site(owner: str, name: str) -> str:
    """The address of the repository's site on GitHub Pages, without a slash at its end."""
    host = f"{owner}.github.io"
    return f"https://{host}" if name.lower() == host.lower() else f"https://{host}/{name}"


def text_files(root: Path) -> Iterator[Path]:
    """The files of the repository (those that git would take, where there is git) that are text."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
        paths = [root / name for name in listed.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [path for path in root.rglob("*") if not SKIP & set(path.relative_to(root).parts)]
    for path in sorted(paths):
        if path.is_file() and not path.is_symlink() and b"\0" not in path.read_bytes():
            yield path


def rewrite(text: str, old: tuple[str, str], new: tuple[str, str]) -> str:
    """`text` with the address `old` in all its forms replaced by `new`."""
    end = r"(?![\w-])"
    text = re.sub(re.escape(site(*old)) + end, lambda _: site(*new), text, flags=re.I)
    pair = r"(?<![\w.-])" + re.escape("/".join(old)) + end
    return re.sub(pair, lambda _: "/".join(new), text)


def rehome(url: str, root: Path = ROOT) -> list[Path]:
    """Make `url` the repository's address in all files; returns those that changed."""
    new, old = parse(url), parse(current(root))
    changed = []
    for path in text_files(root):
        # Bytes in, bytes out: line ends stay as they are.
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
        better = rewrite(text, old, new)
        if better != text:
            path.write_bytes(better.encode("utf-8"))
            changed.append(path)
    return changed


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit("rehome: name the new address: make rehome URL=https://github.com/OWNER/NAME")
    try:
        changed = rehome(sys.argv[1])
    except BadAddress as error:
        sys.exit(f"rehome: {error}")
    for path in changed:
        print(f"  {path.relative_to(ROOT)}")
    print(f"{len(changed)} files changed. The repository's address is {current()}")


if __name__ == "__main__":
    main()
