"""What tests of the execution share."""

import pytest


class TaskStateStore(dict):
    """Stands in for Airflow's task state store."""

    set = dict.__setitem__

    def delete(self, key):
        self.pop(key, None)


@pytest.fixture
def store(context):
    """A task state store, as Airflow 3.3 gives tasks one."""
    context["task_state_store"] = TaskStateStore()
    return context["task_state_store"]
