"""The button that leads from a task to its run in Stably's dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink

from airflow_provider_stably.tasks.version_compat import read_xcom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

RUN_URL_KEY = "run_url"
"""XCom key of the address, for users; Airflow 3 reads the link's own key, so it is pushed under both."""


class StablyRunLink(BaseOperatorLink):
    """Open the run's page in Stably.

    The address is pushed to XCom as soon as the task knows the run, so the button works while the run goes
    on, and for tasks that were killed.
    """

    name = "Open in Stably"
    xcom_key = "_link_StablyRunLink"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the run's address; empty if the task has not started one.

        Whoever may write XComs may have written this one, so only an address of Stably's dashboard is a link.
        """
        from airflow_provider_stably.api.endpoint import DASHBOARD_URL  # a DAG parse does without the API

        if getattr(operator, "knows_no_run", False):
            return ""
        url = read_xcom(ti_key, RUN_URL_KEY)
        return url if isinstance(url, str) and url.startswith(f"{DASHBOARD_URL}/") else ""
