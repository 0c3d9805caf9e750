"""``python -m cli`` is ``flux-image``."""

from __future__ import annotations

from cli.main import main

main()
