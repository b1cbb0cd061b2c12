"""Bounds the rendering of a chat template, which is a program of unknown origin."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from nbllm.errors import UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["check_chat_template"]

_SECONDS = 20  # of a machine that is busy; the processor's the template has two
_MOST = 1_000_000  # characters of what is rendered

# An error of the template is none here: what reads it says itself what is wrong.
_RENDER = """
import json, sys
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

given = json.load(sys.stdin)

class Generation(Extension):  # as transformers has it, which marks what the model wrote
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)

environment = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
)
def refuse(message):
    raise ValueError(message)

print("ready", flush=True)
try:
    import resource
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 2, int(used) + 2))
    resource.setrlimit(resource.RLIMIT_AS, (1_000_000_000, 1_000_000_000))
except (ImportError, ValueError, OSError):
    pass
longest = 0
for turns in (["user"], ["system", "user"], ["user", "assistant", "user"]):
    messages = [
        {"role": role, "content": f"\\ue000{n}\\ue001"} for n, role in enumerate(turns)
    ]
    try:
        rendered = environment.from_string(given["template"]).render(
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=True,
            raise_exception=refuse,
            strftime_now=lambda format: "2026-01-01",
            **given["tokens"],
        )
    except MemoryError:
        raise
    except Exception:
        continue
    longest = max(longest, len(rendered))
print(longest)
"""


def check_chat_template(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Refuse a chat template that does not end soon, or writes without end.

    Args:
        tokenizer: which may have a template.
        folder: the model's, for the message.

    Raises:
        UnsupportedModelError: a template does so.
    """
    found = tokenizer.chat_template
    templates = list(found.values()) if isinstance(found, dict) else [found]
    named = {k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
    for template in templates:
        if isinstance(template, str) and not _ends(template, json.dumps(named)):
            raise UnsupportedModelError(
                f"The chat template of {folder} does not come to an end: rendering one short turn "
                "takes more than two seconds or a gigabyte. Do not load this model unless you know "
                "who wrote it."
            )


@lru_cache(maxsize=64)
def _ends(template: str, tokens: str) -> bool:
    """Return whether a template was rendered to its end, and not to very much."""
    given = json.dumps({"template": template, "tokens": json.loads(tokens)})
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _RENDER],
            input=given.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    except OSError:  # no process can be started here
        return True
    said = done.stdout.split()
    if not said:  # it did not come as far as the template
        return True
    return done.returncode == 0 and int(said[-1]) <= _MOST
