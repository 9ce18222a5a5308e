"""What a rule can start. An actor is found by its entry point in the group `muleteer.actors`; ours like anyone's."""
