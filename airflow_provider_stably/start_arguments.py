"""What a run is started with: the rule for what templates and YAML can turn the arguments into."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from airflow_provider_stably.run_ids import is_missing

log = logging.getLogger(__name__)


def text_or_none(value: object, name: str) -> str | None:
    """Return an argument as text; None for what is missing, a rendered ``'None'`` included.

    :param name: The argument's name, for the message.
    :raises ValueError: if it is neither text nor a number: a list's text would be sent as a name.
    """
    if is_missing(value):
        if value is not None and value != "":
            log.warning("%r counts as not given: it is what a template makes of nothing", value)
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{name} is neither text nor a number but {type(value).__name__}")
    return str(value)


def env_overrides_as_text(overrides: object) -> dict[str, str]:
    """Return environment overrides as the API takes them: text. No error shows a value.

    :raises ValueError: if they are not a mapping of names to text, numbers or booleans.
    """
    if is_missing(overrides):
        return {}
    if not isinstance(overrides, Mapping):
        raise ValueError(
            "env_overrides is not a mapping; one template for all of it needs render_template_as_native_obj"
        )
    return {str(name): _as_text(str(name), value) for name, value in overrides.items()}


def _as_text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()  # as JSON and YAML spell it
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"env_overrides: {name!r} is neither text nor a number nor a boolean")
