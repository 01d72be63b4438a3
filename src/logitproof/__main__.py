"""`python -m logitproof` is the command line."""

from logitproof.cli import main

main()
