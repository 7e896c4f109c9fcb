"""MLCommons' LoadGen drives an offline model: its traffic, its clock, its verdict."""
