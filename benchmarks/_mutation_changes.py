"""Changes of one module, by cosmic-ray: PATH SIZE SEED, run by the interpreter that has it. Prints them as JSON.

SIZE of all its changes, by a seed. A change that leaves the code what it was (in an annotation, which is never evaluated), or
is no Python, counts as none, and another is made.
"""

import ast
import difflib
import json
import random
import sys
from pathlib import Path
from typing import Any

from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code


def main() -> None:
    source, size, seed = Path(sys.argv[1]).read_text("utf-8"), int(sys.argv[2]), int(sys.argv[3])
    places = [place for name in plugins.operator_names() for place in _places(name, source)]
    random.Random(seed).shuffle(places)
    changes, same, original = [], 0, _code(source)
    for name, occurrence, arguments in places:
        if len(changes) == size:
            break
        changed = mutate_code(source, plugins.get_operator(name)(**arguments), occurrence)
        if changed is None or _code(changed) in ("", original):
            same += 1
            continue
        changes.append({"operator": name.removeprefix("core/"), **_lines(source, changed), "source": changed})
    print(json.dumps({"places": len(places), "same": same, "changes": changes}))


def _places(name: str, source: str) -> list[tuple[str, int, dict[str, Any]]]:
    """Where an operator changes something; one that wants arguments has none."""
    kind = plugins.get_operator(name)
    if kind.arguments():
        return []
    count = sum(1 for node in ast_nodes(get_ast(source)) for _ in kind().mutation_positions(node))
    return [(name, occurrence, {}) for occurrence in range(count)]


def _code(source: str) -> str:
    """What a module does: its tree without annotations of functions and of dataclasses, which are text."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)) and any("dataclass" in ast.dump(d) for d in node.decorator_list):
            _without_annotations(node)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Module)):
            _without_annotations(node)
    return ast.dump(tree)


def _without_annotations(parent: ast.AST) -> None:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.dump(node.annotation):
            node.annotation = ast.Constant(None)


def _lines(source: str, changed: str) -> dict[str, Any]:
    """The number of the first line that changed, and the lines before and after."""
    old, new = source.splitlines(), changed.splitlines()
    blocks = [block for block in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if block[0] != "equal"]
    before = " ".join(line.strip() for _, start, end, _, _ in blocks for line in old[start:end])
    after = " ".join(line.strip() for _, _, _, start, end in blocks for line in new[start:end])
    return {"line": blocks[0][1] + 1, "before": before, "after": after}


if __name__ == "__main__":
    main()
