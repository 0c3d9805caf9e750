"""When a worker in doubt claims again."""

from worker.self_test import SelfTest


class Part:
    """Works when the test says so, and counts how often it was tried."""

    def __init__(self, works=True):
        self.works, self.tries = works, 0

    def __call__(self):
        self.tries += 1
        if not self.works:
            raise OSError("no space left")


def test_what_is_not_in_doubt_is_not_tested():
    disk = Part(works=False)
    assert SelfTest({"storage": disk}).trouble() is None
    assert disk.tries == 0


def test_a_part_in_doubt_is_tested_once_and_then_trusted():
    disk = Part()
    self_test = SelfTest({"storage": disk})
    self_test.doubt("storage")
    assert [self_test.trouble(), self_test.trouble()] == [None, None]
    assert disk.tries == 1


def test_a_failing_part_is_tried_again_after_growing_pauses_until_it_works():
    now, disk, device = [0.0], Part(works=False), Part()
    self_test = SelfTest({"storage": disk, "device": device}, clock=lambda: now[0])
    self_test.doubt("storage")
    self_test.doubt("device")
    tried_at = []
    while now[0] < 60:
        before = disk.tries
        assert self_test.trouble() == "storage: no space left"
        if disk.tries > before:
            tried_at.append(now[0])
        now[0] += 1
    assert tried_at == [0, 5, 15, 35]
    disk.works = True
    now[0] = 80
    assert self_test.trouble() is None
    assert device.tries == 1
