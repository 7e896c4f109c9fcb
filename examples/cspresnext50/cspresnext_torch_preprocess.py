#!/usr/bin/env python3
"""Chapter 4.2: python3 cspresnext_torch_preprocess.py IMAGES_DIR ./prep_dataset"""

import sys

from modelport.cli import main

sys.argv[1:1] = ["guide", "preprocess"]
main()
