"""A real agent from the registries: opencode, kept offline, over the loop's model gateway.

It is found as the program ``opencode``, or where ``LOOPAT_TEST_OPENCODE`` says. ``.ci/run``
installs it; elsewhere the tests that need it are skipped.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "LOOPAT_TEST_OPENCODE"
START = 'd=$(mktemp -d) && XDG_CONFIG_HOME=$d OPENCODE_TEST_HOME=$d exec "$0" acp'
"""With an empty place for its configuration: the loop's home and workdir are the agent's own to
write, and what it writes there must not tell it not to ask."""


def find_opencode() -> Path:
    """The program itself, not a link to it. Skips the test where there is none."""
    found = os.environ.get(VARIABLE) or shutil.which("opencode")
    if found is not None and Path(found).exists():
        return Path(found).resolve()
    why = f"opencode is not installed (npm install opencode-ai), and {VARIABLE} does not name it"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def section(program: Path) -> dict[str, Any]:
    """opencode as docs/configuration.md recommends it."""
    return {
        "command": ["bash", "-c", START, str(program)],
        "asks": True,
        "env": {
            "OPENCODE_CONFIG_CONTENT": {
                "model": "loopat/{model}",
                "provider": {
                    "loopat": {
                        "npm": "@ai-sdk/anthropic",
                        "options": {"baseURL": "{model_url}/v1", "apiKey": "{model_key}"},
                        "models": {"{model}": {}},
                    }
                },
                "permission": {"*": "ask"},
                "agent": {"title": {"disable": True}},
                "experimental": {"continue_loop_on_deny": True},
                "autoupdate": False,
                "share": "disabled",
            },
            "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
            "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
        },
    }
