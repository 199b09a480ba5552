"""A DAG whose task uses the hook by hand."""

from __future__ import annotations

# [START howto_hook_stably]
from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_stably.hooks.stably import StablyHook

with DAG("test_two_browsers", schedule=None, tags=["stably"]) as dag:

    @task(retries=0, execution_timeout=timedelta(hours=2))
    def run_both() -> dict[str, str]:
        hook = StablyHook("stably_default")
        started = {}
        try:
            for browser in ("chromium", "firefox"):
                started[browser] = hook.start_run(
                    playwright_project_name=browser, env_overrides={"RETRIES": 2}
                )
            return {
                browser: str(hook.wait_for_run(run_id, timeout=30 * 60).status)
                for browser, run_id in started.items()
            }
        finally:
            for run_id in started.values():
                hook.cancel_run(run_id)  # one that is over is left as it is

    run_both()
# [END howto_hook_stably]
