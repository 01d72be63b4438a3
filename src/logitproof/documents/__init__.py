"""Answers laid out: a question makes one `Document`, renderers print, write and show it, and `answer` is its JSON.

A question has one function `document(found) -> Document` and says there what is decisive, in sections of text, tables and
pictures. To add a layout, put a file here with one function that takes a `Page`. Every text that it lays out goes through
`wording`, since it may hold whatever an engine said.
"""
