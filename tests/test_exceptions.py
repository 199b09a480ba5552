import copy
import inspect
import pickle

import pytest

from airflow_provider_stably import exceptions
from airflow_provider_stably.exceptions import (
    StablyAmbiguousStartError,
    StablyAuthError,
    StablyCancelError,
    StablyConfigError,
    StablyError,
    StablyHTTPError,
    StablyInvalidIdError,
    StablyNotFoundError,
    StablyResponseError,
    StablyRunCancelledError,
    StablyRunError,
    StablyRunFailedError,
    StablyRunLostError,
    StablyRunTimeoutError,
    StablyUnreachableError,
    clearing_locals,
    find_run_error,
)
from airflow_provider_stably.execution.fail_for_good import not_retried
from tests.shown import held_by_frames

ERRORS = [
    StablyError("m"),
    StablyConfigError("m", conn_id="c", field="password"),
    StablyInvalidIdError("m", kind="run", value=None),
    StablyUnreachableError("m", request_sent=True),
    StablyHTTPError("m", status=500, detail="d", retry_after=3.0),
    StablyAuthError("m", status=401, detail="d"),
    StablyNotFoundError("m", status=404, detail="d"),
    StablyResponseError("m", status=200, content_type="text/html", detail="d"),
    StablyAmbiguousStartError("m", project_id="p"),
    StablyCancelError("m", outcomes={"r": {"outcome": "unknown", "status": None}}),
    *[
        kind("m", run={"run_id": "r"})
        for kind in (
            StablyRunError,
            StablyRunFailedError,
            StablyRunCancelledError,
            StablyRunTimeoutError,
            StablyRunLostError,
        )
    ],
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_crosses_processes_with_its_facts(error):
    """Pickled and copied errors keep type, message and facts."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own pickle
        assert type(again) is type(error)
        assert (str(again), vars(again)) == (str(error), vars(error))


def test_the_list_above_is_complete():
    """Every error class of the package is tested."""
    classes = {
        kind
        for _, kind in inspect.getmembers(exceptions, inspect.isclass)
        if kind.__module__ == exceptions.__name__
    }

    assert {type(error) for error in ERRORS} == classes
    assert all(issubclass(kind, StablyError) for kind in classes)


def test_a_runs_error_is_found_however_it_was_wrapped():
    """As a cause, as a context or as it is; an exception of something else leads nowhere."""
    error = StablyRunFailedError("failed", run={"run_id": "r1"})
    caused, circular = RuntimeError("wrapped"), RuntimeError("in a circle")
    caused.__cause__ = not_retried(error)
    circular.__context__ = KeyError("x")
    circular.__context__.__context__ = circular

    assert [find_run_error(e) for e in (error, not_retried(error), caused)] == [error] * 3
    assert [find_run_error(e) for e in (circular, "text", None)] == [None] * 3


def test_a_long_connection_id_is_cut():
    """A connection id of a megabyte makes no log line of one."""
    assert len(str(StablyConfigError("is not defined", conn_id="c" * 10**6, field="conn_id"))) < 300


def test_another_error_that_is_being_handled_keeps_its_locals():
    """A task's own error is not changed because a callback meets one of ours."""

    def fail(told):
        raise ValueError

    def call_back():
        try:
            fail("the task's")
        except ValueError:
            with clearing_locals():
                raise StablyError from None

    with pytest.raises(StablyError) as caught:
        call_back()

    assert "the task's" in held_by_frames(caught.value.__context__)
