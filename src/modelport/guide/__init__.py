"""The reference guide's commands and file formats, and those of its tool's successor ais_bench; nothing else.

The guide carries timm's CSPResNeXt50 to an Ascend 310 by hand. Whoever holds that page types its commands and gets its
files, on whatever engine there is. Formats are stated in docs/guide.md.
"""
