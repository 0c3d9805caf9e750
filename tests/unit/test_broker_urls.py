import pytest

from shared.broker.urls import celery_url, redis_url


@pytest.mark.parametrize(
    ("given", "redis", "celery"),
    [
        ("redis://h:1/2", "redis://h:1/2", "redis://h:1/2"),
        ("rediss://u:p@h/0", "rediss://u:p@h/0", "rediss://u:p@h/0"),
        ("valkey://h:1", "redis://h:1", "redis://h:1"),
        ("valkeys://h:1", "rediss://h:1", "rediss://h:1"),
        ("unix:///run/v.sock", "unix:///run/v.sock", "redis+socket:///run/v.sock"),
        ("unix:///run/v.sock?db=3", "unix:///run/v.sock?db=3", "redis+socket:///run/v.sock?virtual_host=3"),
        ("unix:///db=1/v%3F.sock?db=3", "unix:///db=1/v%3F.sock?db=3", "redis+socket:///db=1/v%3F.sock?virtual_host=3"),
        ("redis+socket:///v?virtual_host=3", "unix:///v?db=3", "redis+socket:///v?virtual_host=3"),
    ],
)
def test_each_library_gets_its_own_spelling(given, redis, celery):
    assert redis_url(given) == redis
    assert celery_url(given) == celery
