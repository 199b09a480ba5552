"""A run that a task has started."""

from tests.constants import PROJECT


def started(emulator, *, try_number=1, project_id=PROJECT, **more):
    """Let a run go on, and return what its task would have pushed."""
    run_id = emulator.add_run(project_id=project_id)
    return {"run_id": run_id, "project_id": project_id, "try_number": try_number, **more}
