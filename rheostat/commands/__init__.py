"""The commands, one file a group; at import they need nothing but typer."""
