"""`python -m szeek.cli`, which torchrun starts its processes with."""

from szeek.cli import main

main()
