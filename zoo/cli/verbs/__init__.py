"""The verbs of the command line, one module each.

A module is named after its verb and holds `command`, a `click.Command` made with
`@click.command(cls=Verb)`, or a `click.Group` of such. It imports what is heavy inside functions,
so that listing the verbs stays fast.
"""
