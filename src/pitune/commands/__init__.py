"""What the `pitune` command does, one function a subcommand; its signature is the schema of flags and YAML alike.

Options that belong together are one parameter (`groups`). These modules import nothing heavy at the top, so that
`pitune --help` answers at once.
"""
