#!/usr/bin/env python3
"""Chapter 6.1: python3 imagenet_acc_eval.py result/dumpOutput_device0/ val_label.txt ./ result.json"""

import sys

from modelport.cli import main

sys.argv[1:1] = ["guide", "acc-eval"]
main()
