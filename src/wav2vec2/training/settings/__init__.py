"""Sections of a run, recipes, and the strict reader of both."""
