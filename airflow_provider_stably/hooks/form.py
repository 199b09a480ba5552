"""The connection form for Airflow before 3.2, which does not read it from the provider's info.

Remove when the oldest supported Airflow is 3.2.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_stably.get_provider_info import get_provider_info


def ui_field_behaviour() -> dict[str, Any]:
    """Describe the form's standard fields."""
    behaviour = _connection_type()["ui-field-behaviour"]
    return {name.replace("-", "_"): value for name, value in behaviour.items()}


def connection_form_widgets() -> dict[str, Any]:
    """Describe the form's own fields.

    All are text: a check box of those forms cannot be left unset, and saving one would set it to false.
    """
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import StringField

    return {
        name: StringField(
            lazy_gettext(field["label"]), description=field["description"], widget=BS3TextFieldWidget()
        )
        for name, field in _connection_type()["conn-fields"].items()
    }


def _connection_type() -> dict[str, Any]:
    connection_type: dict[str, Any] = get_provider_info()["connection-types"][0]
    return connection_type
