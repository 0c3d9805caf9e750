"""Celery, configured as a doorbell; the reasons are in docs/decisions and the worker's README."""

from __future__ import annotations

from typing import Final

from celery import Celery
from kombu import Queue

from shared.broker.names import QUEUES
from shared.broker.urls import celery_url
from shared.domain.job import Lane

LONGEST_JOB_SECONDS: Final = 3600
"""Hard limit of one task: a backstop above the largest permitted job, enforced by killing the child."""

_NEVER_SECONDS: Final = 365 * 86_400.0
"""When a child that still starts counts as hung. It loads models, from any disk; a limit kills it again and again."""

_TRANSPORT_OPTIONS: Final = {
    "visibility_timeout": 86_400,  # shorter than a job, and kombu hands the running job out again
    "socket_timeout": 5.0,  # the default waits for ever on a frozen broker
    "socket_connect_timeout": 2.0,
    "socket_keepalive": True,
    "health_check_interval": 25,
}

_RING_OPTIONS: Final = {
    **_TRANSPORT_OPTIONS,
    "socket_timeout": 2.0,
    "max_retries": 0,  # the default tries for 6 s to connect; who rings does not wait, the reconciler rings again
}


def make_celery(url: str) -> Celery:
    """Return a Celery app on this broker that only carries job ids."""
    app = Celery("flux-image", broker=celery_url(url), set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=False,  # crashes are counted in SQL; the broker would loop for ever
        task_acks_on_failure_or_timeout=True,
        task_time_limit=LONGEST_JOB_SECONDS,
        task_queues=[Queue(name) for name in QUEUES.values()],
        task_default_queue=QUEUES[Lane.GPU],
        task_create_missing_queues=False,
        worker_pool="prefork",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        worker_proc_alive_timeout=_NEVER_SECONDS,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=True,
        task_send_sent_event=False,  # makes a new Flower series at every API restart
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_TRANSPORT_OPTIONS,
    )
    return app


def make_ringing_celery(url: str) -> Celery:
    """Return a Celery app for a process that only rings: it gives a broker two seconds, and tries once."""
    app = make_celery(url)
    app.conf.broker_transport_options = _RING_OPTIONS
    return app
