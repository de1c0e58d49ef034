"""Comparisons of two arms, over all replicates at once."""
