"""Writes of one process's threads: one after another, without SQLite's growing pauses; and nobody waits for ever."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from shared.db.engine import Turn

LIMIT = 30.0


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as pool:
        yield pool


def test_a_thread_waits_until_the_one_before_is_done(threads):
    turn, entered, order = Turn(seconds=LIMIT), Event(), []

    def follow():
        entered.set()
        with turn.taken():
            order.append("second")

    # Given a thread that has the turn, and another that asks for it
    with turn.taken():
        waiting = threads.submit(follow)
        assert entered.wait(LIMIT)
        with pytest.raises(TimeoutError):
            waiting.result(0.05)
        order.append("first")
    # Then that one comes when the first is done
    waiting.result(LIMIT)
    assert order == ["first", "second"]


def test_who_waits_too_long_goes_on_and_leaves_the_turn_to_its_holder(threads):
    turn = Turn(seconds=0.01)

    def impatient():
        with turn.taken():
            return "went on"

    # Given a thread that keeps the turn; when another asks for it, then it goes on after a while
    with turn.taken():
        assert threads.submit(impatient).result(LIMIT) == "went on"
    # And the first one's turn was not given away: a lock that nobody holds could not be released here
    with turn.taken():
        pass


def test_an_error_passes_the_turn_on(threads):
    turn = Turn(seconds=LIMIT)
    with pytest.raises(ValueError, match="no"), turn.taken():
        raise ValueError("no")
    with turn.taken():
        pass


def test_threads_that_write_at_once_all_write(database):
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE counted (number INTEGER)")

    def add(number):
        with database.write(durable=number % 2 == 0) as connection:
            connection.exec_driver_sql("INSERT INTO counted VALUES (?)", (number,))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(200)))
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT sum(number) FROM counted").scalar() == sum(range(200))
