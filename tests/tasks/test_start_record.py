"""Whose run a start record names."""

import pytest

from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.tasks.start_record import StartRecord

RUN = RunReference("run", "project", "stably_default")


@pytest.mark.parametrize("cancel_on_kill", [True, False])
@pytest.mark.parametrize(
    ("recorded_by", "is_retried", "answered_for"),
    [
        (2, True, "always"),
        (2, False, "always"),  # its own, whatever became of the counters since
        (1, True, "always"),
        (1, False, "if cancelled on kill"),
        (None, True, "always"),
        (None, False, "if cancelled on kill"),
        (3, True, "never"),
        (3, False, "never"),
    ],
)
def test_a_try_answers_for_its_own_run_and_earlier_ones(
    recorded_by, is_retried, answered_for, cancel_on_kill
):
    """A later try's run is never an earlier one's business; after a clear, that of a lone run is nobody's."""
    record = StartRecord(RUN, is_retried=is_retried, try_number=recorded_by)

    run = record.run_of(2, cancel_on_kill=cancel_on_kill)

    is_answered_for = answered_for == "always" or (answered_for != "never" and cancel_on_kill)
    assert run == (RUN if is_answered_for else None)
