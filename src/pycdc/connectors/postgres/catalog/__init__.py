"""Read the source's catalogs."""
