"""What crosses a border: frozen models, no I/O, no decisions.

`did` and `event` come from the catalog, `rule` and `workflow` from an operator, `views` go to a person.
"""
