"""Fuzzing of everything that reads what others wrote: `python -m fuzz [TARGET …]`. The property tests use the same targets."""
