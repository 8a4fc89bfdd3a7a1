"""The page that reports a run, with its charts."""
