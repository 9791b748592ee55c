"""The command line: one module per group of verbs."""

import os

# Before numpy is imported: fields are worked on side by side, a core each, and threads of OpenBLAS wait for one
# another by spinning, so that two fields took as long as one after the other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from szeek.cli.app import app, main

__all__ = ["app", "main"]
