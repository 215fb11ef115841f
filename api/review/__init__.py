"""A queue over one report, decided by people."""
