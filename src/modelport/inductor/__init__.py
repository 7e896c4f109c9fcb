"""AOTInductor packages (`.pt2`): a PyTorch classifier compiled ahead of time for one batch size on one device, and run.

Everything here takes a plain `torch.nn.Module` and imports nothing but PyTorch, NumPy, the standard library and the errors of
this package, so that it also works on a bare machine that has only these. `engines/inductor.py` is the engine that modelport
makes of it.
"""
