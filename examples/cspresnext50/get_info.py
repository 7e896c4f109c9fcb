#!/usr/bin/env python3
"""Chapter 4.3: python3 get_info.py bin ./prep_dataset ./cspresnext_prep_bin.info 224 224"""

import sys

from modelport.cli import main

sys.argv[1:1] = ["guide", "get-info"]
main()
