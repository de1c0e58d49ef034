"""Simulation of resistance to immune checkpoint inhibitors under combination strategies."""
