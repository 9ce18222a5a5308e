"""Second and third stop: rules are matched against messages, and what they ask for is worked off."""
