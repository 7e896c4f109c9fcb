"""A stand-in for the one function of CANN's Python binding that is used. STANDIN_SOC: the chip's name."""

import os


def get_soc_name():
    """Name of the chip in this machine."""
    return os.environ["STANDIN_SOC"]
