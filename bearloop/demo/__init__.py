"""`bearloop demo`: the whole life once, on real pictures, through the public API only."""
