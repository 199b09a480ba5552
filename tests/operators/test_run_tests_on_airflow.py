"""Operator, trigger and sensor on a real Airflow, on the worker and deferred."""

import math
import re
import time
from datetime import datetime

import airflow
import pytest
from airflow.models import DagRun
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_stably.api.models import RunStatus
from airflow_provider_stably.execution import callback_budget
from airflow_provider_stably.testing import Fault
from tests.constants import KEY, PROJECT
from tests.dag_files import load_dag_file
from tests.shown import shown

BOTH = pytest.mark.parametrize("mode", ["here", "deferred"])


@pytest.fixture
def dags(airflow_db):
    """The module of DAGs that run tests."""
    return load_dag_file("tests/dags", "run")


@pytest.fixture
def quick(emulator):
    """An emulator whose runs take a fifth of a second."""
    emulator.run_seconds = 0.2
    return emulator


def _task(dag_run, task_id="run", map_index=-1):
    return dag_run.get_task_instance(task_id, map_index=map_index)


def _xcom(ti, key="return_value"):
    return ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)


def _test_in_spite_of_timeouts(dag, conf):
    """Run ``dag.test()``, out of which Airflow 2.11 lets what interrupts a task at its execution_timeout."""
    try:
        return dag.test(run_conf=conf)
    except AirflowTaskTimeout:
        [dag_run] = DagRun.find(dag_id=dag.dag_id)
        return dag_run


@BOTH
def test_a_run_that_passes_is_a_success_with_a_summary(quick, dags, mode, capfd):
    """The task succeeds, returns the summary, and its log ends with the whole story."""
    ti = _task(getattr(dags, f"run_{mode}").test(run_conf={"script": "passes"}))

    [run_id] = quick.runs
    url = f"https://app.stably.ai/project/{PROJECT}/playwright/history/{run_id}?tab=specs"
    assert str(ti.state) == "success"
    queued_ms = _xcom(ti)["queued_ms"]
    assert 0 <= queued_ms < 60_000
    assert datetime.fromisoformat(_xcom(ti)["started_at"]).tzinfo
    assert _xcom(ti) == {
        "run_id": run_id,
        "project_id": PROJECT,
        "run_url": url,
        "status": "PASSED",
        "total": 3,
        "passed": 2,
        "failed": 0,
        "skipped": 1,
        "duration_ms": 180,
        "started_at": _xcom(ti)["started_at"],
        "queued_ms": queued_ms,
        "branch": None,
        "failed_tests": [],
    }
    assert (_xcom(ti, "run_id"), _xcom(ti, "run_url")) == (run_id, url)
    started_at = _xcom(ti, "stably_run")["started_at"]
    assert time.time() - 60 < started_at < time.time()
    assert _xcom(ti, "stably_run") == {
        "run_id": run_id,
        "project_id": PROJECT,
        "run_url": url,
        "try_number": 1,
        "stably_conn_id": "stably_default",
        "started_at": started_at,
        "cancel_on_kill": True,
    }
    assert f"Run {run_id} PASSED: 2 of 3 tests passed, 1 skipped in 0.2 s, after 0." in capfd.readouterr().out


@BOTH
@pytest.mark.parametrize(
    ("script", "status", "tries"),
    [
        ("fails", "FAILED", 3),
        ("times-out", "TIMEDOUT", 3),
        ("is-interrupted", "INTERRUPTED", 3),
        ("ends-unknown", "ABANDONED", 3),
        ("is-cancelled", "CANCELLED", 1),
    ],
)
def test_a_failed_run_is_retried_where_that_may_help(quick, dags, mode, script, status, tries, capfd):
    """Each try starts a run of its own; what somebody cancelled is not started again."""
    ti = _task(getattr(dags, f"run_{mode}_with_retries").test(run_conf={"script": script}))

    shown = capfd.readouterr().out
    assert str(ti.state) == "failed"
    assert len(quick.requests("start")) == ti.try_number == tries
    assert f"Run {list(quick.runs)[-1]} {status}" in shown
    assert quick.requests("cancel") == []
    assert "check out a basket" in shown or status in {"ABANDONED", "CANCELLED"}


@BOTH
def test_a_status_nobody_knows_is_waited_for(quick, dags, mode):
    """A live status that this version has never heard of keeps the task waiting."""
    ti = _task(getattr(dags, f"run_{mode}").test(run_conf={"script": "pauses"}))

    assert str(ti.state) == "success"


@BOTH
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(drop=True, processed=True), id="dropped after processing"),
        pytest.param(Fault(drop=True), id="dropped"),
        pytest.param(Fault(status=502, processed=True), id="502"),
        pytest.param(Fault(body="<html>", processed=True), id="HTML"),
    ],
)
def test_a_start_whose_answer_is_lost_is_made_once(quick, dags, mode, fault, capfd):
    """One start request in spite of retries=2, and the error says that an untracked run may exist."""
    quick.inject(fault, call="start", times=math.inf)

    ti = _task(getattr(dags, f"run_{mode}_with_retries").test(run_conf={"script": "passes"}))

    assert (str(ti.state), len(quick.requests("start"))) == ("failed", 1)
    assert "an untracked run may exist" in capfd.readouterr().out


@BOTH
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=503), id="503"),
        pytest.param(Fault(drop=True), id="dropped"),
        pytest.param(Fault(body="<html>"), id="HTML"),
        pytest.param(Fault(status=400), id="400"),
    ],
)
def test_polls_that_fail_a_while_do_not_end_the_wait(quick, dags, mode, fault):
    """Ten failed polls in a row do not end the wait, and the run is neither lost nor cancelled."""
    quick.inject(fault, call="get", times=10)

    ti = _task(getattr(dags, f"run_{mode}").test(run_conf={"script": "passes"}))

    assert str(ti.state) == "success"
    assert quick.requests("cancel") == []


@BOTH
def test_a_single_404_or_401_does_not_end_the_wait(quick, dags, mode):
    """Both are believed only when they last."""
    for fault in (Fault(status=404), Fault(status=401), Fault(status=404)):
        quick.inject(fault, call="get")

    ti = _task(getattr(dags, f"run_{mode}").test(run_conf={"script": "passes"}))

    assert str(ti.state) == "success"


@BOTH
@pytest.mark.parametrize(("status", "word"), [(404, "not found"), (401, "refused the key")])
def test_a_run_that_cannot_be_watched_is_cancelled(emulator, dags, mode, status, word, capfd):
    """A 404 or 401 that lasts ends the wait; as the cancel works, waiting may change it."""
    emulator.inject(Fault(status=status, body={"error": "?"}), call="get", times=math.inf)

    ti = _task(getattr(dags, f"run_{mode}_with_retries").test(run_conf={"script": "hangs"}))

    assert (str(ti.state), ti.try_number) == ("failed", 3)
    assert emulator.live_runs() == []
    assert word in capfd.readouterr().out


@BOTH
def test_a_run_that_its_cancel_does_not_find_is_gone(emulator, dags, mode, monkeypatch):
    """What waiting cannot change is final."""
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 1.0)
    emulator.inject(Fault(status=404, body={"error": "?"}), call="get", times=math.inf)
    emulator.inject(Fault(status=404, body={"error": "?"}), call="cancel", times=math.inf)

    ti = _task(getattr(dags, f"run_{mode}_with_retries").test(run_conf={"script": "hangs"}))

    assert (str(ti.state), ti.try_number) == ("failed", 1)


@BOTH
@pytest.mark.parametrize("limit", ["too_long", "execution_timeout"])
def test_a_run_that_takes_too_long_is_cancelled(emulator, dags, mode, limit):
    """At the operator's timeout, or the task's, the run is cancelled and the task fails."""
    ti = _task(_test_in_spite_of_timeouts(getattr(dags, f"run_{mode}_{limit}"), {"script": "hangs"}))

    assert str(ti.state) == "failed"
    assert emulator.live_runs() == []
    assert len(emulator.requests("start")) == 1


def test_a_run_within_its_execution_timeout_passes(quick, dags):
    """It is watched to its end, also where its start is not known: in ``dag.test()`` of Airflow 2.11."""
    ti = _task(dags.run_deferred_in_time.test(run_conf={"script": "passes"}))

    assert str(ti.state) == "success"
    assert quick.requests("cancel") == []


@BOTH
def test_a_run_that_passed_unseen_is_a_success(emulator, dags, mode):
    """The last poll failed, but cancelling found the run PASSED, so the task succeeds."""
    emulator.run_seconds = 0.1
    emulator.inject(Fault(status=500), call="get", times=math.inf)
    respond = emulator.respond

    def healed_by_the_cancel(request):
        if request.call == "cancel":
            emulator.heal()
        return respond(request)

    emulator.respond = healed_by_the_cancel

    ti = _task(getattr(dags, f"run_{mode}_too_long").test(run_conf={"script": "passes"}))

    assert str(ti.state) == "success"
    assert _xcom(ti)["status"] == "PASSED"


def test_fire_and_forget_leaves_the_run_alone(emulator, dags):
    """Without waiting the task succeeds as soon as the run is started."""
    ti = _task(dags.run_and_leave.test(run_conf={"script": "hangs"}))

    [run_id] = emulator.live_runs()
    assert str(ti.state) == "success"
    assert (_xcom(ti)["run_id"], _xcom(ti)["status"]) == (run_id, None)
    assert _xcom(ti, "stably_run")["run_id"] == run_id
    assert [request.call for request in emulator.requests()] == ["start"]


def test_mapped_tasks_each_have_their_run(quick, dags):
    """expand() over environments or suites starts one run each, with its own result."""
    dag_run = dags.run_mapped.test(run_conf={"scripts": ["passes", "fails", "passes"]})

    states = [str(_task(dag_run, map_index=index).state) for index in range(3)]
    assert states == ["success", "failed", "success"]
    assert len(quick.runs) == 3
    assert _xcom(_task(dag_run, map_index=2))["status"] == "PASSED"


def test_overrides_are_sent_as_text_and_never_shown(quick, dags, capfd, caplog):
    """Scalars become text; neither log, XCom, trigger nor rendered view has a secret value or the key."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields

    with caplog.at_level("DEBUG"):
        ti = _task(dags.run_with_secrets.test(run_conf={"token": "hush-hush-value"}))

    assert quick.requests("start")[0].json()["envOverrides"] == {
        "API_TOKEN": "hush-hush-value",
        "RETRIES": "3",
        "HEADLESS": "true",
    }
    printed = shown(capfd.readouterr())
    rendered = RenderedTaskInstanceFields.get_templated_fields(ti)
    ours = "\n".join(record.getMessage() for record in caplog.records if "stably" in record.name)
    xcoms = repr([_xcom(ti, key) for key in ("return_value", "stably_run", "run_id", "run_url")])
    assert rendered["env_overrides"]["RETRIES"] == 3 or "RETRIES" in str(rendered["env_overrides"])
    for secret in ("hush-hush-value", KEY):
        assert secret not in str(rendered) + ours + xcoms
    assert KEY not in printed


@pytest.mark.parametrize("mode", ["here", "rescheduled", "deferred"])
@pytest.mark.parametrize(
    ("status", "state"),
    [
        *[(s.value, "failed") for s in RunStatus if s.value not in {"PASSED", "QUEUED", "RUNNING"}],
        ("PASSED", "success"),
    ],
)
def test_the_sensor_succeeds_only_if_the_run_passed(emulator, dags, mode, status, state):
    """Every mode gives the same result, returns the summary and never cancels."""
    if mode == "rescheduled" and airflow.__version__.startswith("3.0."):
        pytest.skip("dag.test() of Airflow 3.0 hands a rescheduled sensor its start as text")
    run_id = emulator.add_run(project_id=PROJECT, statuses=["QUEUED", "RUNNING", status])

    ti = _task(getattr(dags, f"wait_{mode}").test(run_conf={"run_id": run_id}), "wait")

    assert str(ti.state) == state
    assert emulator.requests("cancel") == []
    if state == "success":
        assert _xcom(ti)["status"] == "PASSED"


@BOTH
@pytest.mark.parametrize(("variant", "state"), [("softly", "skipped"), ("too_long", "failed")])
def test_the_sensor_behaves_as_its_base_class(emulator, dags, mode, variant, state):
    """soft_fail skips, timeout fails; the run that the sensor did not start is left alone."""
    statuses = ["FAILED"] if variant == "softly" else ["RUNNING"]
    run_id = emulator.add_run(project_id=PROJECT, statuses=statuses)

    ti = _task(getattr(dags, f"wait_{mode}_{variant}").test(run_conf={"run_id": run_id}), "wait")

    assert str(ti.state) == state
    assert emulator.requests("cancel") == []


@pytest.mark.parametrize("run_id", ["", "None", "a/b"], ids=repr)
def test_a_sensor_without_a_run_id_fails_clearly(emulator, dags, run_id, capfd):
    """A missing or malformed id is an error before any request."""
    ti = _task(dags.wait_here.test(run_conf={"run_id": run_id}), "wait")

    assert str(ti.state) == "failed"
    assert re.search("run_id(: not an id .*: a/b| is ''| is 'None')", capfd.readouterr().out)
    assert emulator.requests() == []


def test_a_mapped_instance_cancels_only_its_own_run(emulator, dags):
    """An instance does not cancel the runs of its siblings."""
    dag_run = dags.run_in_mapped_group.test(run_conf={"scripts": ["hangs", "hangs", "hangs"]})

    cancelled = [_xcom(_task(dag_run, "suite.stop", index)) for index in range(3)]
    started = [[_xcom(_task(dag_run, "suite.start", index), "run_id")] for index in range(3)]
    assert cancelled == started
    assert len(emulator.requests("cancel")) == 3


@pytest.mark.parametrize(
    "connection", [{"password": ""}, {"extra": {"timeout": "soon"}}], ids=["key", "extra"]
)
def test_a_sensor_with_a_bad_connection_fails_at_once(emulator, dags, monkeypatch, connection):
    """What no waiting can cure is not waited for."""
    run_id = emulator.add_run(project_id=PROJECT)
    fields = {"login": PROJECT, **connection}
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(**fields))

    ti = _task(dags.wait_here.test(run_conf={"run_id": run_id}), "wait")

    assert str(ti.state) == "failed"


@BOTH
def test_a_soft_sensor_without_a_run_id_is_skipped(emulator, dags, mode):
    """soft_fail holds for every failure."""
    ti = _task(getattr(dags, f"wait_{mode}_softly").test(run_conf={"run_id": "a/b"}), "wait")

    assert str(ti.state) == "skipped"
