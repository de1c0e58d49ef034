"""Pictures of results: they read files and compute nothing that could be wrong."""
