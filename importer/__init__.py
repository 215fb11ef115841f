"""The import job: fetch or read sources, verify, hash, store."""
