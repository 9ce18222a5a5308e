"""muleteer's engine. The rooms, in the order a message travels:

`broker` takes frames into the `store`; `dispatch` matches them against rules and works off what they ask for;
`launch` turns a workflow into a submission and follows it. `panda`, `rucio` and `store` are the doors to what is
outside; `core` holds every decision; `wiring` puts the pieces together; `cli` is what people type.
"""
