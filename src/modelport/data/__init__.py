"""Images, labels and predictions on disk. Knows no engine."""
