"""The command line: one module per group of verbs."""

from szeek.cli.app import app, main

__all__ = ["app", "main"]
