"""The window: a REST service on what the store holds, for people and their programs."""
