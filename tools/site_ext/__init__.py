"""What the book adds to Jupyter Book: light pages without a network, an address, the ledger,
reader copies for Colab, slides."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    for part in ("offline", "icons", "ledger_page", "pictures", "published", "readers", "slides"):
        app.setup_extension(f"site_ext.{part}")
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
