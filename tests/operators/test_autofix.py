"""Whether a run's failures are to be fixed by Stably: what the start request says."""

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from tests.operators.run_operator import run_operator


@pytest.mark.parametrize(
    ("autofix", "sent"),
    [
        (None, {}),
        ("None", {}),
        (True, {"autofix": True}),
        ("False", {"autofix": False}),
        (False, {"autofix": False}),
    ],
    ids=repr,
)
def test_autofix_is_sent_as_asked_for(emulator, context, autofix, sent):
    """None sends nothing, so that the project's default holds; a rendered boolean is sent as one."""
    operator = run_operator(playwright_project_name=None, wait_for_completion=False)
    operator.autofix = autofix  # as templates render it

    operator.execute(context)

    assert emulator.requests("start")[0].json() == sent


def test_an_autofix_that_cannot_be_read_starts_nothing(emulator, context):
    """What a template rendered is refused before a run is started, for good."""
    operator = run_operator(wait_for_completion=False)
    operator.autofix = "perhaps"

    with pytest.raises(AirflowFailException, match="autofix is True, False or None, not 'perhaps'"):
        operator.execute(context)

    assert emulator.requests() == []


@pytest.mark.parametrize(("autofix", "sent"), [(None, {}), (False, {"autofix": False})])
def test_the_hook_sends_autofix(emulator, hook, autofix, sent):
    """As the operator does."""
    hook.start_run(autofix=autofix)

    assert emulator.requests("start")[0].json() == sent
