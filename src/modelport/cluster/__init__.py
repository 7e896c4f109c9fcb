"""Runs that are spread over a cluster: Ray schedules shards of the images, modelport's own commit protocol owns the output."""
