"""Measuring speed: one monotonic clock, warmup apart, raw figures kept."""
