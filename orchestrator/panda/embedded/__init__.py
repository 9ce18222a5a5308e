"""The embedded engine: `engine` takes submissions in, `runner` runs each in a process of its own by its `plan`."""
