"""What *Test* in Airflow's connection form says."""

from __future__ import annotations

from airflow_provider_stably.api import calls
from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.exceptions import StablyError, StablyHTTPError, StablyResponseError

ACCEPTED = (
    "Stably answered and accepted the API key. "
    "Not checked: that the project exists, and that the key may start and cancel its runs."
)
_NOT_STABLY = "Something answered, but not Stably's API: check the host. "


def check_key(client: StablyClient, project_id: str) -> tuple[bool, str]:
    """Check a connection's key without starting anything: read a run that cannot exist.

    :param project_id: The connection's project; empty takes a placeholder.
    :returns: Whether the key was accepted, and what that does and does not show.
    """
    try:
        client.send_once(calls.get_run(project_id or "connection-test", "connection-test"))
    except StablyHTTPError as error:
        if error.status in {400, 404} and error.is_from_api:
            return True, ACCEPTED
        is_refused_or_down = error.status in {401, 403, 429} or error.status >= 500
        return False, f"{'' if error.is_from_api or is_refused_or_down else _NOT_STABLY}{error}"
    except StablyResponseError as error:
        return False, f"{_NOT_STABLY}{error}"
    except StablyError as error:
        return False, str(error)
    return False, f"{_NOT_STABLY}It knows a run that cannot exist."


def without_id(message: str, stably_conn_id: str) -> str:
    """Leave a connection's id out of a message: Airflow tests the form under an id that it makes up."""
    name = f"connection {stably_conn_id!r}"
    return message.replace(f"Airflow {name}", "This connection").replace(name, "this connection")
