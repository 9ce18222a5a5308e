"""Fourth stop: a workflow becomes a submission, and is followed to its end."""
