"""Frozen records that cross a program's boundary; pure: nothing here talks to the world."""
