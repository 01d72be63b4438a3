"""A chat template at work, in a process of its own: [template, [[messages, prompted], ...]] in, [[text, why not], ...] out.

Run by `chat_template.rendered`, isolated, so that it imports nothing but the sandbox of jinja2: a template may loop for ever or
ask for all memory, and what it raises is whatever Python raises.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY = 1 << 30
LONGEST = 1 << 20
"""Characters of a text; a conversation of these has some hundred."""


def main() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # where the system knows no such limit, the deadline stands
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    template, asked = json.load(sys.stdin)
    print(json.dumps([_rendered(template, messages, prompted) for messages, prompted in asked]))


def _rendered(template: str, messages: list[dict[str, str]], prompted: bool) -> tuple[str | None, str]:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    words = {"messages": messages, "add_generation_prompt": prompted, "bos_token": "", "eos_token": ""}
    parts, size = [], 0
    try:
        for part in environment.from_string(template).generate(**words):
            parts.append(part)
            size += len(part)
            if size > LONGEST:
                return None, f"it writes more than {LONGEST} characters"
        text = "".join(parts)
        text.encode()  # half of a character is no text
    except TemplateError as error:
        return None, str(error)
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"[:500]
    return text, ""


def _refuse(message: Any) -> None:
    raise TemplateError(str(message))


if __name__ == "__main__":
    main()
