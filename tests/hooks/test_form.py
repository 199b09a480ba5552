"""What Airflow finds of the provider: the hook, its connection form, the provider info."""

import importlib
import json
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType

import airflow
import pytest

from airflow_provider_stably.get_provider_info import get_provider_info
from airflow_provider_stably.hooks.stably import StablyHook


def test_airflow_finds_the_hook():
    """Airflow's own providers manager accepts the connection type."""
    from airflow.providers_manager import ProvidersManager

    info = ProvidersManager().hooks["stably"]

    assert info.hook_name == "Stably"
    assert info.connection_id_attribute_name == "stably_conn_id"


@pytest.mark.skipif(
    airflow.__version__.startswith(("3.0.", "3.1.")) and find_spec("flask_appbuilder") is None,
    reason="Airflow 3.0, and 3.1 but for its user interface, need Flask AppBuilder for forms",
)
def test_airflow_finds_the_form():
    """Airflow's own providers manager accepts what the connection type's form is made of."""
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()

    assert manager.field_behaviours["stably"]["relabeling"]["password"] == "API key"
    assert {"extra__stably__timeout", "extra__stably__verify"} <= set(manager.connection_form_widgets)


@pytest.mark.skipif(
    airflow.__version__.startswith(("2.", "3.0.")),
    reason="Airflow 3.0 needs Flask AppBuilder for forms, 2.11 has another user interface",
)
def test_the_user_interface_gets_the_form():
    """Airflow's user interface gets the form's names and fields, also without Flask AppBuilder."""
    program = (  # in a process of its own: Airflow 3.1 leaves stand-ins for Flask AppBuilder behind
        "from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService as service;"
        "[form] = [one for one in service.hook_meta_data() if one.connection_type == 'stably'];"
        "print(form.standard_fields.password.title, *sorted(form.extra_fields), sep=',')"
    )

    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    assert shown.splitlines()[-1] == "API key,allow_http,proxy,timeout,trust_env,verify"


def test_the_provider_info_fits_airflows_schema():
    """The form keys are checked by the schema that knows them, not by the one that accepts typos."""
    from pathlib import Path

    import airflow
    import jsonschema

    schema = json.loads(Path(airflow.__path__[0], "provider.yaml.schema.json").read_text())
    info = get_provider_info()
    parts = {key: schema["properties"][key] for key in info if key in schema["properties"]}

    jsonschema.validate(info, {"type": "object", "properties": parts, "$defs": schema.get("$defs", {})})
    assert "connection-types" in parts
    if "conn-fields" in json.dumps(parts):  # before Airflow 3.2 they are unknown, and so not checked
        connection_type = {**info["connection-types"][0], "conn-fields": {"timeout": {"labl": "x"}}}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(
                {"connection-types": [connection_type]}, {"type": "object", "properties": parts}
            )


def test_everything_named_in_the_provider_info_exists():
    """Every module and class in the provider's metadata can be imported."""
    info = get_provider_info()
    modules = [
        name for kind in ("hooks", "operators") for entry in info[kind] for name in entry["python-modules"]
    ]

    for name in modules:
        importlib.import_module(name)
    module, _, hook_class = info["connection-types"][0]["hook-class-name"].rpartition(".")
    assert getattr(importlib.import_module(module), hook_class) is StablyHook


def test_earlier_airflows_get_the_same_form(monkeypatch):
    """The classmethods that Airflow before 3.2 calls tell the same fields as the provider info."""
    fields = get_provider_info()["connection-types"][0]["conn-fields"]
    for name in ("flask_appbuilder", "flask_appbuilder.fieldwidgets", "flask_babel", "wtforms"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["flask_appbuilder.fieldwidgets"].BS3TextFieldWidget = lambda: "widget"
    sys.modules["flask_babel"].lazy_gettext = str.upper
    sys.modules["wtforms"].StringField = lambda label, **options: (label, options)

    widgets = StablyHook.get_connection_form_widgets()
    behaviour = StablyHook.get_ui_field_behaviour()

    assert list(widgets) == list(fields)
    assert widgets["timeout"] == (
        fields["timeout"]["label"].upper(),
        {"description": fields["timeout"]["description"], "widget": "widget"},
    )
    assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}
    assert behaviour["relabeling"]["login"] == "Default project id"
