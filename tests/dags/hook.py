"""A DAG whose task uses the hook by hand."""

from __future__ import annotations

# [START howto_hook_stably]
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_stably.exceptions import StablyRunTimeoutError
from airflow_provider_stably.hooks.stably import StablyHook

with DAG("test_two_browsers", schedule=None, tags=["stably"]) as dag:

    @task
    def run_both() -> dict[str, str]:
        hook = StablyHook("stably_default")
        started = {
            browser: hook.start_run(playwright_project_name=browser, env_overrides={"RETRIES": 2})
            for browser in ("chromium", "firefox")
        }
        statuses = {}
        for browser, run_id in started.items():
            try:
                run = hook.wait_for_run(run_id, timeout=30 * 60)
            except StablyRunTimeoutError:
                print(f"{browser}: too slow, {hook.cancel_run(run_id).outcome}")
            else:
                statuses[browser] = str(run.status)
        return statuses

    run_both()
# [END howto_hook_stably]
