"""`python -m modelport.cli`."""

from . import main

main()
