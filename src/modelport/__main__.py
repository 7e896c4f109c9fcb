"""`python -m modelport`."""

from .cli import main

main()
