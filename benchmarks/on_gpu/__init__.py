"""`benchmarks/gpu.py`, in steps. Needs torch, NumPy and Pillow, and of this repository only the two files of its engine."""
