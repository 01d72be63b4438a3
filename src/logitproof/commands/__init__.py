"""The commands of the command line, a file each: the file's name is the command's, `command` is the click command.

A module here imports click and nothing else before its command runs, so that `--help` is instant.
"""
