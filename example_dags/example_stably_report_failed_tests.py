"""How do I tell people which tests failed? Read the XCom summary: a task that fails pushes it, too.

Two ways: a notifier on the task that runs the tests - here Airflow's own for mail, Slack's takes the same
templates - or a task that reports, whatever became of the run.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import ...
from airflow.providers.common.compat.sdk import DAG, Param, task
from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from airflow_provider_stably.operators.stably import StablyRunTestsOperator

# [START howto_notify_stably_failed_tests]
SUMMARY = "{% set run = ti.xcom_pull(task_ids='run_tests', key='summary') %}"

mail = SmtpNotifier(
    from_email="airflow@example.com",
    to="team@example.com",
    subject=SUMMARY + "Stably tests: {{ run.status or 'not over' if run else 'no run was started' }}",
    html_content=SUMMARY
    + "{% if run %}<p>{{ run.message | e }}</p>"
    + "<ul>{% for title in run.failed_tests %}<li>{{ title | e }}</li>{% endfor %}</ul>"
    + "<a href='{{ run.run_url }}'>Open in Stably</a>"
    + "{% else %}<p>See the log of the task run_tests</p>{% endif %}",
)

with DAG(
    "example_stably_report_failed_tests",
    description="Runs the Stably tests, and tells people which failed",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    params={"suite": Param(None, type=["null", "string"], title="Playwright project")},
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:
    run_tests = StablyRunTestsOperator(
        task_id="run_tests",
        playwright_project_name="{{ params.suite }}",
        on_failure_callback=mail,
        min_tests=1,
        deferrable=True,
        timeout=60 * 60,
        retries=0,  # each retry is another run
    )

    @task(execution_timeout=timedelta(minutes=5))
    def report(ti: Any = None) -> None:
        run = ti.xcom_pull(task_ids="run_tests", key="summary")
        if run is None:
            print("No run was started, see the log of run_tests")
        else:
            print("\n".join([run["message"], *run["story"]]))

    # A teardown runs also if tests failed, and the DAG run is red then all the same.
    run_tests >> report().as_teardown()
    # [END howto_notify_stably_failed_tests]
