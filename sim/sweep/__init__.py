"""Sweeps: many configurations from one command, kept so that nothing is done twice or lost."""
