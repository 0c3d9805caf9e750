"""A context that remembers what it is told and does something at the moments that a test waits for."""

from worker.cancellation import JobInterrupted, StopReason
from worker.generators.interface import SilentContext


def stop():
    raise JobInterrupted(StopReason.USER_REQUEST)


class RecordingContext(SilentContext):
    """``at`` maps an event to what is done when it is first reported."""

    def __init__(self, at=None):
        self.events = []
        self._at = dict(at or {})

    def on_phase(self, phase):
        self._happened(phase.value)

    def on_step(self, step, total_steps):
        self._happened(("step", step, total_steps))

    def on_queue(self, position, eta_seconds):
        self._happened(("queue", position))

    def on_image(self, index, image):
        self._happened(("image", index))

    def warn(self, message):
        self._happened(("warning", message))

    @property
    def warnings(self):
        return [event[1] for event in self.events if event[0] == "warning"]

    def _happened(self, event):
        if event not in self.events[-1:]:  # reports are repeated at every poll
            self.events.append(event)
        if action := self._at.pop(event, None):
            action()
