"""What the book adds to Jupyter Book: pages that need no network, the ledger, reader copies."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    app.setup_extension("site_ext.offline")
    app.setup_extension("site_ext.ledger_page")
    app.setup_extension("site_ext.readers")
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
