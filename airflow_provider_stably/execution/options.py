"""What a DAG author asked for, as plain values: so that what carries it out needs no operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Self


class _Options:
    @classmethod
    def of(cls, declared: object) -> Self:
        """Take the options from an operator, sensor or notifier whose fields are rendered."""
        return cls(**{option.name: getattr(declared, option.name) for option in fields(cls)})  # type: ignore[arg-type] # each subclass is a dataclass


@dataclass(frozen=True, slots=True)
class RunTestsOptions(_Options):
    """Options of :class:`~airflow_provider_stably.operators.stably.StablyRunTestsOperator`."""

    project_id: object
    playwright_project_name: object
    branch: object
    environment: object
    env_overrides: object = field(repr=False)
    autofix: object
    wait_for_completion: bool
    deferrable: bool
    poll_interval: float
    timeout: float
    queue_timeout: float | None
    cancel_on_kill: bool
    junit_xml: object
    min_tests: int
    stably_conn_id: str


@dataclass(frozen=True, slots=True)
class CancelRunsOptions(_Options):
    """Options of :class:`~airflow_provider_stably.operators.stably.StablyCancelRunOperator`."""

    run_ids: object
    task_ids: Sequence[str] | None
    project_id: str | None
    stably_conn_id: str
    on_empty: str
    ignore_missing: bool
    wait_for_termination: bool
    timeout: float
    poll_interval: float
    do_xcom_push: bool


@dataclass(frozen=True, slots=True)
class WatchRunOptions(_Options):
    """Options of :class:`~airflow_provider_stably.sensors.stably.StablyRunSensor`."""

    run_id: object
    project_id: object
    poke_interval: float
    reschedule: bool
    soft_fail: bool
    never_fail: bool
    timeout: float
    junit_xml: object
    min_tests: int
    stably_conn_id: str


@dataclass(frozen=True, slots=True)
class NotifyOptions(_Options):
    """Options of :class:`~airflow_provider_stably.notifications.stably.StablyCancelRunNotifier`."""

    task_ids: Sequence[str] | None
    run_ids: object
    project_id: object
    stably_conn_id: str
