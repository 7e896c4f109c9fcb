#!/usr/bin/env python3
"""Chapter 3.1: python3 cspresnext_pth2onnx.py cspresnext50_ra_224-648b4713.pth cspresnext.onnx"""

import sys

from modelport.cli import main

sys.argv[1:1] = ["guide", "pth2onnx"]
main()
