"""Which errors a task may be retried after."""

import pytest

from airflow_provider_stably.exceptions import (
    StablyAmbiguousStartError,
    StablyCancelError,
    StablyConfigError,
    StablyHTTPError,
    StablyInvalidIdError,
    StablyUnreachableError,
)
from airflow_provider_stably.execution.fail_for_good import may_retry


def _http(status, *, is_from_api=True):
    return StablyHTTPError(str(status), status=status, detail="", is_from_api=is_from_api)


@pytest.mark.parametrize(
    ("error", "may"),
    [
        *[(_http(status), True) for status in (401, 403, 404, 409, 423, 425, 429, 500, 503, 522)],
        *[(_http(status), False) for status in (302, 400, 402, 405, 413, 422, 501, 505)],
        *[(_http(status, is_from_api=False), True) for status in (400, 402, 405, 407, 422, 451)],
        *[(_http(status, is_from_api=False), False) for status in (302, 501)],
        (StablyUnreachableError("refused", request_sent=False), True),
        (StablyAmbiguousStartError("answer lost", project_id="p"), False),
        (StablyCancelError("an earlier run is live", outcomes={}), True),
        (StablyConfigError("is not defined", conn_id="c", field="conn_id"), True),
        (StablyConfigError("no key", conn_id="c", field="password"), False),
        (StablyInvalidIdError("bad", kind="project", value="/"), False),
        (ValueError("bad argument"), False),
    ],
    ids=str,
)
def test_a_task_is_retried_where_waiting_may_help(error, may):
    """Not where a start may have been accepted, nor where the answer would stay the same."""
    assert may_retry(error) is may
