"""The training: batches, step, schedule, loop, workers and saved state."""
