"""Training: batches, schedule, step, loop, workers and saved states."""
