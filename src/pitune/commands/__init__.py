"""What the `pitune` command does, one function a subcommand; its signature is the schema of flags and YAML alike.

These modules import nothing heavy at the top, so that `pitune --help` answers at once.
"""
