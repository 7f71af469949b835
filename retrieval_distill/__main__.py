"""``python -m retrieval_distill``: the command line."""

from retrieval_distill.cli import main

main()
