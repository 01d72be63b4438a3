"""What PyYAML found wrong, in words for those who write the file: its own are of tokens and constructors."""

from __future__ import annotations

import re

WORDS = (
    (r"found character '\\t' that cannot start any token", "a tab stands where only spaces may"),
    (r"found character (.+) that cannot start any token", r"a text that begins with \1 has no quotes"),
    (r"mapping values are not allowed here", "a colon where no key may stand: put a text that has one in quotes"),
    (r"could not find expected ':'", "a line has no colon with a space after it, so it is no key with a value"),
    (r"could not determine a constructor for the tag '(?:tag:yaml\.org,2002:)?(.+)'", r"the tag \1 is not known here"),
    (r"but found another document", "a second document begins: one file holds one"),
    (r"found undefined alias '(.+)'", r"the alias *\1 names nothing: no &\1 stands before it"),
    (r"found duplicate anchor.*", "an anchor stands twice"),
    (r"found unexpected end of stream", "the file ends within a text in quotes"),
    (r"expected <block end>, but found '(.+)'", "it is not indented as the lines above are"),
    (r"expected ',' or '(.)', but got .+", r"a comma or the closing \1 is missing before this"),
    (r"expected the node content, but found .+", "a value is missing before this"),
    (r"expected .*mapping.*for merging.*", "what << takes in is no mapping"),
    (r"found unknown escape character (.+)", r"a text in double quotes has the escape \\\1: write it in single quotes"),
    (r"found unknown directive name.*|expected '<document start>', but found .+", "a text where a key with a colon should be"),
    (r"unacceptable character #x(\w+).*position (\d+)", r"the character U+\1 may not stand in it (place \2)"),
)
"""PyYAML's problem as a pattern, and what stands for it."""


def worded(problem: str) -> str:
    """A problem of PyYAML in our words; a problem of our own, or one that has none yet, as it is."""
    for pattern, words in WORDS:
        if match := re.fullmatch(pattern, problem, re.DOTALL):
            return match.expand(words)
    return problem
