"""What a message may quote of an answer: storable, without secrets (some servers echo them), and short."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from airflow_provider_stably.api.models import storable

MAX_CHARACTERS = 500
"""How much of a body is quoted."""

SHORTEST_SECRET = 5
"""Shorter values of environment overrides are shown, as by Airflow's masker: they are words like ``true``."""

_JSON_ESCAPES = re.compile(r'(?:\\(?:u[0-9A-Fa-f]{4}|["\\/bfnrt]))+')
_MAX_ESCAPES = 4
"""How many times over an escaped secret is recognized: JSON quoted in JSON quoted in ..."""

_LONGEST_ESCAPE = 2 * (2 ** (_MAX_ESCAPES - 1) + len("ud83d"))
"""Characters that one character of a secret may take, escaped so many times."""


@dataclass(frozen=True, slots=True)
class Redactor:
    """Quotes answers to one call.

    :param secrets: What the server was sent in confidence, the longest first: one may be a part of another.
    """

    secrets: tuple[str, ...]

    @classmethod
    def hiding(cls, api_key: str, *values: object) -> Self:
        """Hide the key, and those of the values that are long enough to be secret."""
        texts = {text for value in values if len(text := str(value).strip()) >= SHORTEST_SECRET}
        return cls(tuple(sorted({api_key, *texts}, key=len, reverse=True)))

    def of_body(self, body: bytes) -> str:
        """Quote the start of a body; the contract's ``{"error": ...}`` is unwrapped for the eye only."""
        spare = _LONGEST_ESCAPE * len(self.secrets[0])
        start = body[: 4 * MAX_CHARACTERS + spare]
        text = start.decode("utf-8", "replace").strip()
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, Mapping) and isinstance(parsed.get("error"), str):
            return self.of(parsed["error"])
        return self.of(text, spare=spare if len(body) > len(start) else 0)

    def of(self, text: str, *, spare: int = 0) -> str:
        """Quote a text.

        :param spare: How many characters at the end to leave out, because they may be a part of a secret.
        """
        shown = unescaped = self._scrubbed(storable(text))
        for _ in range(_MAX_ESCAPES):
            unescaped = storable(_JSON_ESCAPES.sub(lambda escapes: json.loads(f'"{escapes[0]}"'), unescaped))
            scrubbed = self._scrubbed(unescaped)
            if scrubbed != unescaped:  # else the escapes hide nothing, and stay as they came
                shown = unescaped = scrubbed
        return shown[: max(0, len(shown) - spare)][:MAX_CHARACTERS]

    def _scrubbed(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text
