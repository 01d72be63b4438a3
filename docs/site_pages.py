"""Pages of the documentation that are made while it is built: the front page, metrics, suites, schemas and the changelog.

A hook of mkdocs: `make docs` builds the whole, and a warning ends it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from logitproof import catalog
from logitproof.report import schema

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./(?!\w+\.md)[^)]*\)|\[([^\]]+)\]\(\.\./(?:CONTRIBUTING|README|LICENSE)[^)]*\)")
"""Links of a page to files that are no pages."""
LINK = re.compile(r"\[([^\]]*(?:`[^`]*`[^\]]*)*)\]\(([^)\s]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        files.append(File.generated(config, name, content=page()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of the documentation stay as words; those of decisions to pages stay links."""
    depth = page.file.src_uri.count("/")
    return markdown if depth else OUTSIDE.sub(lambda match: match[1] or match[2], markdown)


def index() -> str:
    """The front page is the README, whose links into docs/ are links of the site."""
    text = (ROOT / "README.md").read_text("utf-8")
    return LINK.sub(_of_the_site, text).replace('"docs/', '"')


def metrics() -> str:
    """Every metric with its formula, unit and source, as its class says them."""
    lines = ["# Metrics", "", "Each is computed at every position, or once a prompt. The page is made from the classes."]
    for name, entry in catalog.entries("metrics").items():
        lines += ["", f"## `{name}`", "", " ".join(entry.help.split())]
        lines += [f"- option `{option.name}`: {option.type}, default `{option.default}`" for option in entry.options]
    return "\n".join(lines) + "\n"


def suites() -> str:
    """How a suite file looks."""
    read = json.loads(schema.path("suite").read_text("utf-8"))
    lines = ["# Suites", "", "A suite is a YAML file of prompts, which a contract names. The page is made from its schema.", ""]
    lines += ["```yaml", "suite: two", "max_new_tokens: 8", "prompts:", "  - {id: hello, text: Hello there}", "```"]
    for title, part in (("The file", read), *read.get("$defs", {}).items()):
        lines += ["", f"## {title}", "", "| key | type | what it is |", "|---|---|---|"]
        for name, field in part.get("properties", {}).items():
            must = ", must be there" if name in part.get("required", []) else ""
            lines.append(f"| `{name}` | {_kind(field)}{must} | {_cell(field.get('description', ''))} |")
    return "\n".join(lines) + "\n"


def schemas() -> str:
    """Every published schema, by the file or the answer that it describes."""
    lines = ["# Schemas", "", "Each lies in the package, in `report/schemas/`.", "", "| schema | of | keys |", "|---|---|---|"]
    for path in sorted(schema.path("verdict").parent.glob("*.schema.json")):
        read = json.loads(path.read_text("utf-8"))
        keys = ", ".join(f"`{key}`" for key in read.get("properties", {}))
        lines.append(f"| `{path.name}` | {_cell(read.get('title', ''))} | {keys} |")
    return "\n".join(lines) + "\n"


def changelog() -> str:
    """The changelog, with its links into docs/."""
    return (ROOT / "CHANGELOG.md").read_text("utf-8").replace("](docs/", "](")


PAGES: dict[str, Callable[[], str]] = {
    "index.md": index,
    "metrics.md": metrics,
    "suites.md": suites,
    "schemas.md": schemas,
    "changelog.md": changelog,
}


def _of_the_site(match: re.Match[str]) -> str:
    """A link of the README: into docs/ it is one of the site, elsewhere in the repository its words."""
    text, target = match[1], match[2]
    if target.startswith("docs/"):
        return f"[{text}]({target.removeprefix('docs/')})"
    return match[0] if target.startswith(("http:", "https:", "#")) else text


def _kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return f"[{(name := field['$ref'].rpartition('/')[2])}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(_kind(part) for part in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    return str(field.get("type", "any"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
