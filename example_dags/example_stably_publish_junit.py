"""How do I publish the results as JUnit XML? Name a file: a path, or an address in an object storage.

It is written for runs that fail, too. For a bucket, say "s3://my_aws_conn@my-bucket/...". Each try writes a
file of its own here, so that a retry hides no failure.
"""

from __future__ import annotations

from datetime import timedelta

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import ...
from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_stably.operators.stably import StablyRunTestsOperator

with DAG(
    "example_stably_publish_junit",
    description="Writes the results of the Stably tests as JUnit XML",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    params={
        "folder": Param("s3://my-bucket/stably", type="string", title="Where to: a bucket or a folder"),
        "suite": Param(None, type=["null", "string"], title="Playwright project"),
    },
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:
    # [START howto_operator_stably_junit]
    StablyRunTestsOperator(
        task_id="run_tests",
        playwright_project_name="{{ params.suite }}",
        junit_xml="{{ params.folder }}/{{ run_id }}/try-{{ ti.try_number }}.xml",
        min_tests=1,
        deferrable=True,
        timeout=60 * 60,
        retries=0,  # each retry is another run
    )
    # [END howto_operator_stably_junit]
