"""Weights are read ahead in order, what is cached is not read again, and whoever listens hears the truth."""

import os

import pytest

from worker.pipelines import weight_reader
from worker.pipelines.weight_reader import PIECE_BYTES, WeightReader, weight_files


@pytest.fixture
def files(tmp_path):
    """Two files of several pieces, one of them a link as in Hugging Face's cache, and one shorter than a piece."""
    paths = []
    for name, size in (("a", 2 * PIECE_BYTES + 5), ("b", 1000), ("c", PIECE_BYTES)):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(os.urandom(size))
        paths.append(path)
    link = tmp_path / "link.safetensors"
    link.symlink_to(paths[0])
    return [link, *paths[1:]]


def total(files):
    return sum(path.stat().st_size for path in files)


def listening():
    reader, heard = WeightReader(), []
    reader.listener = heard.append
    return reader, heard


def test_the_listener_hears_the_start_and_the_end_in_bytes(files):
    reader, heard = listening()
    reader.read("schnell", files)
    assert {report.model for report in heard} == {"schnell"}
    assert {report.total_bytes for report in heard} == {total(files)}
    done = [report.done_bytes for report in heard]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, total(files))


def test_every_byte_that_is_not_cached_is_read_and_no_other(files, monkeypatch):
    # Given a page cache that has the second piece of the first file and nothing else
    read = []
    monkeypatch.setattr(weight_reader, "_is_cached", lambda _file, start, _length: start == PIECE_BYTES)
    monkeypatch.setattr(weight_reader, "_bring", lambda *piece: read.append(piece))
    reader, heard = listening()
    reader.read("schnell", files)
    # Then the rest is read, and all of it is counted
    assert sum(length for _, _, length in read) == total(files) - PIECE_BYTES
    assert heard[-1].done_bytes == total(files)


def test_what_was_just_read_is_in_the_cache(files):
    WeightReader().read("schnell", files)
    for path in files:
        with path.open("rb") as file:
            assert weight_reader._is_cached(file.fileno(), 0, min(PIECE_BYTES, path.stat().st_size))


def test_a_file_named_twice_is_read_once(files):
    reader, heard = listening()
    reader.read("schnell", [files[0], files[0]])
    assert heard[-1].total_bytes == total(files[:1])


def test_a_listener_ends_the_reading_by_raising(files):
    class Stop(Exception):
        pass

    def stop(_report):
        raise Stop

    reader = WeightReader()
    reader.listener = stop
    with pytest.raises(Stop):
        reader.read("schnell", files)


def test_a_disk_that_cannot_be_read_is_the_caller_s_error(files, monkeypatch):
    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(weight_reader, "_is_cached", lambda *_: False)
    monkeypatch.setattr(weight_reader, "_bring", broken)
    with pytest.raises(OSError, match="Input/output error"):
        WeightReader().read("schnell", files)


def test_a_machine_without_the_memory_reads_nothing_ahead(files, monkeypatch):
    monkeypatch.setattr(weight_reader, "available_bytes", lambda: total(files) - 1)
    reader, heard = listening()
    reader.read("schnell", files)
    assert heard == []


def test_a_component_s_files_are_those_of_its_variant(tmp_path):
    for name in ("model.safetensors", "model.fp16.safetensors", "config.json"):
        (tmp_path / name).touch()
    assert [path.name for path in weight_files(tmp_path, "fp16")] == ["model.fp16.safetensors"]
    assert "model.safetensors" in [path.name for path in weight_files(tmp_path)]
