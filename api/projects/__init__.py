"""Projects, members, tokens and the audit record."""
