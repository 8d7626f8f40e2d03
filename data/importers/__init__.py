"""Logs that people already have, as samples: one file a format. A row that does not fit is named, with column and reason."""
