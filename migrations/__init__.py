"""The database's history: run as the owner, under an advisory lock."""
