"""The CPU server of one bundle."""
