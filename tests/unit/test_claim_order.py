"""Who is claimed next when models are loaded: the order, its bounds, and the index behind it, on a real SQLite."""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from shared.db.claim_order import _HEAD, _OLDEST_OF_KEY
from shared.db.models import JobRow
from shared.domain.job import JobClass, JobInput, Lane
from shared.domain.params import InputRole
from shared.domain.residency import MAX_BYPASSED_FOR, MAX_BYPASSES
from shared.domain.route import Enhancement
from tests.builders import new_job, params

LEASE = timedelta(seconds=30)
MODELS = ("red", "green", "blue")

properties = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
resident_sets = st.frozensets(st.sampled_from(MODELS))


@pytest.fixture
def queue_of(jobs, database):
    """Fill an empty queue."""

    def fill(wanted):
        with database.write() as connection:
            connection.execute(delete(JobRow))
        return [
            jobs.add(new_job(job_class=cls, priority=priority, model=model), 10_000) for cls, priority, model in wanted
        ]

    return fill


def bypasses(database, job_id):
    with database.read() as connection:
        return connection.execute(select(JobRow.bypasses, JobRow.first_bypassed_at).where(JobRow.id == job_id)).one()


class TestOrder:
    @properties
    @given(
        st.lists(
            st.tuples(st.sampled_from(JobClass), st.integers(0, 1), st.sampled_from(MODELS)), min_size=1, max_size=14
        ),
        st.data(),
    )
    def test_it_is_class_priority_loaded_age_and_is_told_by_rows_and_time_alone(
        self, queue_of, claims, clock, wanted, data
    ):
        waiting = queue_of(wanted)
        counts, first = Counter(), {}
        while waiting:
            # Given any set of loaded models, and any time since the last claim
            resident = data.draw(resident_sets)
            clock.now += timedelta(seconds=data.draw(st.sampled_from((0, 1, 60))))
            # Then the claimed job is the one that a plain reading of the rule names
            best = min((job.schedule.job_class, job.schedule.priority) for job in waiting)
            peers = [job for job in waiting if (job.schedule.job_class, job.schedule.priority) == best]
            head = peers[0]
            loaded = [job for job in peers if job.model in resident]
            exhausted = head.id in first and clock.now - first[head.id] >= MAX_BYPASSED_FOR
            passes = loaded and best[0] != JobClass.INTERACTIVE and not exhausted
            expected = loaded[0] if passes else head
            if expected is not head:
                counts[head.id] += 1
                first.setdefault(head.id, clock.now)
            assert claims.claim(Lane.GPU, "w1", LEASE, resident).id == expected.id
            waiting.remove(expected)

    @properties
    @given(st.lists(st.sampled_from(MODELS), min_size=1, max_size=10), resident_sets)
    def test_interactive_jobs_go_by_age_whatever_is_loaded(self, queue_of, claims, models, resident):
        added = queue_of([(JobClass.INTERACTIVE, 0, model) for model in models])
        assert [claims.claim(Lane.GPU, "w1", LEASE, resident).id for _ in added] == [job.id for job in added]

    def test_a_better_class_or_priority_is_never_passed_over_for_a_loaded_model(self, queue_of, claims):
        better, _, best = queue_of([
            (JobClass.NORMAL, -1, "red"), (JobClass.NORMAL, 0, "blue"), (JobClass.INTERACTIVE, 9, "red"),
        ])  # fmt: skip
        assert [claims.claim(Lane.GPU, "w1", LEASE, {"blue"}).id for _ in range(2)] == [best.id, better.id]

    def test_jobs_of_two_models_are_grouped(self, queue_of, claims):
        queue_of([(JobClass.NORMAL, 0, model) for model in ("red", "blue") * 4])
        resident, order = frozenset(), []
        for _ in range(8):
            job = claims.claim(Lane.GPU, "w1", LEASE, resident)
            resident = frozenset({job.model})
            order.append(job.model)
        assert order == ["red"] * 4 + ["blue"] * 4


class TestBound:
    def stream(self, jobs, claims, clock, pause):
        """Keep a younger job of the loaded model waiting, and claim until the old one of the other model is taken."""
        old = jobs.add(new_job(model="red"), 100)
        for passed_over in range(1000):
            jobs.add(new_job(model="blue"), 100)
            if claims.claim(Lane.GPU, "w1", LEASE, {"blue"}).id == old.id:
                return old, passed_over
            clock.now += pause
        raise AssertionError("starved")

    def test_a_job_is_passed_over_so_many_times_and_no_more(self, jobs, claims, clock, database):
        old, passed_over = self.stream(jobs, claims, clock, timedelta(0))
        assert passed_over == MAX_BYPASSES == bypasses(database, old.id).bypasses

    def test_a_job_is_passed_over_for_so_long_and_no_longer(self, jobs, claims, clock, database):
        _, passed_over = self.stream(jobs, claims, clock, timedelta(seconds=30))
        assert passed_over == MAX_BYPASSED_FOR / timedelta(seconds=30)

    def test_the_time_starts_at_the_first_bypass_and_not_at_the_submit(self, jobs, claims, clock, database):
        # Given a job that is old already
        old = jobs.add(new_job(model="red"), 100)
        clock.now += timedelta(hours=5)
        jobs.add(new_job(model="blue"), 100)
        # When a loaded model's job comes by, then it is passed over all the same, from now on
        assert claims.claim(Lane.GPU, "w1", LEASE, {"blue"}).model == "blue"
        assert clock.now - bypasses(database, old.id).first_bypassed_at < timedelta(seconds=1)

    def test_a_clock_that_jumps_back_leaves_the_bound_on_the_count(self, jobs, claims, clock):
        # Given an old job that was passed over once, and more than enough jobs of the loaded model
        old = jobs.add(new_job(model="red"), 100)
        for _ in range(2 * MAX_BYPASSES):
            jobs.add(new_job(model="blue"), 100)
        assert claims.claim(Lane.GPU, "w1", LEASE, {"blue"}).model == "blue"
        # When the clock jumps back, so that no time seems to pass any more
        clock.now -= timedelta(hours=2)
        # Then the old job still waits for no more than its number of others
        order = [claims.claim(Lane.GPU, "w1", LEASE, {"blue"}).id for _ in range(MAX_BYPASSES)]
        assert order.index(old.id) == MAX_BYPASSES - 1

    @properties
    @given(st.lists(st.sampled_from(MODELS), min_size=2, max_size=60), st.data())
    def test_nobody_starves_whatever_is_loaded(self, queue_of, claims, clock, models, data):
        # Given any queue and, at each claim, any loaded models
        added = queue_of([(JobClass.NORMAL, 0, model) for model in models])
        order = []
        while added[0].id not in order:
            resident = data.draw(st.sampled_from([frozenset({"blue"}), frozenset({"red"}), frozenset()]))
            clock.now += MAX_BYPASSED_FOR / 4
            order.append(claims.claim(Lane.GPU, "w1", LEASE, resident).id)
        # Then the oldest job is taken within its bound
        assert len(order) <= 6


class TestIndex:
    @pytest.fixture
    def crowded(self, jobs, database):
        """Ten thousand waiting jobs of three models."""
        jobs.add(new_job(model="red"), 10)
        with database.write() as connection:
            row = dict(connection.execute(select(*JobRow.__table__.columns)).one()._mapping)
            connection.execute(
                insert(JobRow),
                [
                    {**row, "id": f"job_{number}", "residency": MODELS[number % 3], "priority": number % 2}
                    for number in range(10_000)
                ],
            )
        return database

    @pytest.mark.parametrize(
        ("query", "index"), [(_HEAD, "ix_jobs_claim"), (_OLDEST_OF_KEY, "ix_jobs_residency")], ids=["head", "key"]
    )
    def test_both_look_ups_are_one_seek_and_no_sort(self, crowded, clock, query, index):
        values = {"lane": Lane.GPU, "now": clock.now, "job_class": JobClass.NORMAL, "priority": 0, "key": "blue"}
        with crowded.read() as connection:
            dialect = crowded.engine.dialect
            compiled = query.compile(dialect=dialect)
            bound = compiled.construct_params({name: values[name] for name in compiled.params if name in values})
            arguments = [
                compiled._bind_processors.get(name, lambda value: value)(bound[name]) for name in compiled.positiontup
            ]
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", tuple(arguments)).all()
        steps = [row.detail for row in plan]
        assert any(f"USING INDEX {index}" in step for step in steps), steps
        assert not any("TEMP B-TREE" in step for step in steps), steps


def test_a_job_that_follows_a_picture_needs_its_adapter_too(jobs, claims):
    # Given a job by words, and one that follows a reference picture
    reference = JobInput(role=InputRole.REFERENCE, path="inputs/x", width=8, height=8, size_bytes=1, sha256="0" * 64)
    jobs.add(new_job(model="dev"), 10)
    keys = [claims.next_job(Lane.GPU).residency]
    claims.claim(Lane.GPU, "w1", LEASE)
    jobs.add(new_job(model="dev", inputs=(reference,)), 10)
    keys.append(claims.next_job(Lane.GPU).residency)
    # Then the second one's residency key says so
    assert keys == ["dev", "dev+flux-ip-adapter"]


def test_the_next_job_is_told_with_the_words_its_generator_will_get(jobs, claims):
    # Given an empty queue, and then a job whose prompt was enriched
    assert claims.next_job(Lane.GPU) is None
    enhancement = Enhancement(by="a model", prompt="a very red circle")
    jobs.add(new_job(enhancement=enhancement, params=params(num_inference_steps=9)), 10)
    # Then what is told of it has the steps and the new words
    following = claims.next_job(Lane.GPU)
    assert (following.residency, following.params.prompt) == ("demo", "a very red circle")
    assert following.params.num_inference_steps == 9
