"""First stop: frames come in from the broker and are stored before they are acknowledged."""
