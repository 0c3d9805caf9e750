import pytest

from shared.storage.local import LocalMediaStorage


@pytest.fixture
def storage(tmp_path):
    return LocalMediaStorage(tmp_path / "media")


def test_what_is_put_can_be_read_and_deleted(storage, tmp_path):
    storage.put("job_1/1-0.png", b"pixels")
    assert storage.read("job_1/1-0.png") == b"pixels"
    assert [path.name for path in storage.local_path("job_1/1-0.png").parent.iterdir()] == ["1-0.png"]
    storage.delete("job_1/1-0.png")
    storage.delete("job_1/1-0.png")
    assert list((tmp_path / "media").iterdir()) == []


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a/../../x", ""])
def test_a_key_never_leaves_the_directory(storage, key):
    with pytest.raises(ValueError, match="leaves the media directory"):
        storage.put(key, b"")


def test_a_failed_write_leaves_nothing(storage, tmp_path):
    with pytest.raises(TypeError):
        storage.put("job_1/a.png", "no bytes")
    assert list((tmp_path / "media" / "job_1").iterdir()) == []
