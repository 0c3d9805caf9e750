"""A model's weights are read before they are loaded: all that is missing, and nothing twice."""

import pytest

from shared.catalog import CATALOG
from worker.generators.local import LocalGenerator
from worker.pipelines.device import pick_device
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import DEMO_CHECKPOINT, Weights


def bytes_of(*folders):
    return sum(path.stat().st_size for folder in folders for path in (DEMO_CHECKPOINT / folder).rglob("*.safetensors"))


def test_each_model_s_own_weights_are_read_and_those_it_shares_only_once():
    # Given a listener to how far weights are read
    store, heard = PipelineStore(Weights(), pick_device("cpu")), []
    LocalGenerator(store).tell_loading(heard.append)
    # When two models of a family are loaded, one of them twice
    for model in ("demo", "demo-kontext", "demo"):
        store.load(CATALOG[model])
    # Then the second brings its transformer alone
    ends = [(report.model, report.done_bytes) for report in heard if report.done_bytes == report.total_bytes]
    assert ends == [("demo", bytes_of("demo")), ("demo-kontext", bytes_of("demo-kontext"))]
    assert bytes_of("demo") > bytes_of("demo-kontext") > 0


def test_whoever_listens_can_stop_a_load_and_it_begins_anew_later():
    class Stop(Exception):
        pass

    def stop(_report):
        raise Stop

    store = PipelineStore(Weights(), pick_device("cpu"))
    generator = LocalGenerator(store)
    generator.tell_loading(stop)
    with pytest.raises(Stop):
        store.load(CATALOG["demo"])
    generator.tell_loading(lambda _report: None)
    assert store.load(CATALOG["demo"]).spec.model == "demo"
