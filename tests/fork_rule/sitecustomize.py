"""torch's rule about CUDA and fork, for machines without a card; in force where this folder is on ``PYTHONPATH``.

A process that has used CUDA, if only by asking whether it is there, cannot hand it on: in its forked children torch
refuses it with the words below (``torch.cuda._lazy_init`` and the docstring of ``torch.cuda.is_available``,
torch 2.13). Without a card torch never gets that far, so the rule is kept here. Each process also notes which modules
it had when it last forked, in a file named by its id in ``FORK_RULE_NOTES``.
"""

import functools
import importlib.abc
import importlib.machinery
import os
import sys
from pathlib import Path

USES_CUDA = ("is_available", "device_count", "get_device_capability", "get_device_properties", "_lazy_init")


class Rule:
    used = False
    is_bad_fork = False

    def use(self):
        if self.is_bad_fork:
            raise RuntimeError(
                "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the "
                "'spawn' start method"
            )
        if not self.used:
            self.used = True
            os.register_at_fork(after_in_child=self.break_it)

    def break_it(self):
        self.is_bad_fork = True


RULE = Rule()


def under_the_rule(function):
    @functools.wraps(function)
    def guarded(*arguments, **named):
        RULE.use()
        return function(*arguments, **named)

    return guarded


class Loader(importlib.abc.Loader):
    def __init__(self, real):
        self._real = real

    def create_module(self, spec):
        return self._real.create_module(spec)

    def exec_module(self, module):
        self._real.exec_module(module)
        for name in USES_CUDA:
            setattr(module, name, under_the_rule(getattr(module, name)))


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "torch.cuda":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = Loader(spec.loader)
        return spec


def note_modules():
    folder = os.environ.get("FORK_RULE_NOTES")
    if folder is not None:
        Path(folder, str(os.getpid())).write_text("\n".join(sys.modules))


sys.meta_path.insert(0, Finder())
os.register_at_fork(before=note_modules)
