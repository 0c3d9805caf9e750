"""`python -m worker.probe`: what a child of the worker sees of the device, as one line of JSON.

For `flux-image doctor`, which must not load torch. As in the worker, the parent imports what Celery's parent imports
and forks by billiard; the child makes the engine and multiplies two small matrices on the device. No weights are read.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import billiard

from worker.app import settings
from worker.build import make_local_generator
from worker.engine_start import in_words

SECONDS: Final = 120.0
"""How long the child may take: importing torch, and waking the driver."""


def ask_child() -> dict[str, Any]:
    """Return ``device`` and ``defaults`` (by kind, with the reason) as the child sees them, or ``error`` in words."""
    context: Any = billiard.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(sender,))
    child.start()
    sender.close()
    try:
        if not receiver.poll(SECONDS):
            return {"error": f"it gave no answer within {SECONDS:g} s"}
        return dict(receiver.recv())
    except EOFError:
        child.join()
        return {"error": f"it ended without a word, with exit code {child.exitcode}"}
    finally:
        child.terminate()
        child.join()


def _answer(sender: Any) -> None:
    try:
        sender.send(_look())
    except Exception as error:  # noqa: BLE001  # the words are the answer
        sender.send({"error": in_words(error)})
    finally:
        sender.close()


def _look() -> dict[str, Any]:
    _, report = make_local_generator()
    import torch

    device = torch.device("cuda" if report.has_cuda else "cpu")
    (torch.ones(16, 16, device=device) @ torch.ones(16, 16, device=device)).sum().item()
    defaults = {kind: f"{default.model} ({default.reason})" for kind, default in report.defaults.items()}
    return {"device": report.device, "defaults": defaults}


def main() -> int:
    """Write the answer; the exit code is 0 whatever it says."""
    sys.stdout.write(json.dumps(ask_child() | {"wanted": settings.device}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
