"""What Airflow reads of this provider through the entry point ``apache_airflow_provider``."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Describe the provider; keys and form fields are those of Airflow's ``provider.yaml`` schema.

    The connection form stands here once: Airflow 3.2 and later reads it from here, and the hook builds the
    form of earlier versions from it.
    """
    return {
        "package-name": "airflow-provider-stably",
        "name": "Stably",
        "description": "Start, watch and cancel `Stably <https://stably.ai/>`__ test runs.",
        "integrations": [
            {
                "integration-name": "Stably",
                "external-doc-url": "https://docs.stably.ai/",
                "tags": ["service"],
            }
        ],
        **{
            kind: [
                {"integration-name": "Stably", "python-modules": [f"airflow_provider_stably.{kind}.stably"]}
            ]
            for kind in ("hooks", "operators", "sensors", "triggers")
        },
        "notifications": ["airflow_provider_stably.notifications.stably.StablyCancelRunNotifier"],
        "extra-links": ["airflow_provider_stably.links.stably.StablyRunLink"],
        "connection-types": [
            {
                "connection-type": "stably",
                "hook-class-name": "airflow_provider_stably.hooks.stably.StablyHook",
                "hook-name": "Stably",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema"],
                    "relabeling": {
                        "password": "API key",
                        "login": "Default project id",
                        "host": "API base URL",
                        "port": "API port",
                    },
                    "placeholders": {
                        "password": "required; from https://app.stably.ai/settings?tab=api-key",
                        "login": "optional; used where a task names no project",
                        "host": "optional; default https://api.stably.ai",
                        "port": "optional",
                    },
                },
                "conn-fields": {
                    "timeout": {
                        "label": "Timeout (seconds)",
                        "description": "To connect, and again to get an answer. Default 30.",
                        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
                    },
                    "proxy": {
                        "label": "Proxy URL",
                        "description": "For example http://proxy.example:3128. Default: the environment's.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "verify": {
                        "label": "TLS verification",
                        "description": "true, false, or a CA bundle's path. Default: the environment's.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "trust_env": {
                        "label": "Trust environment",
                        "description": "Use HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE. Default true.",
                        "schema": {"type": ["boolean", "null"], "default": True},
                    },
                    "allow_http": {
                        "label": "Allow plain HTTP",
                        "description": "Send the API key in clear text to any host. Default false.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                },
            }
        ],
    }
