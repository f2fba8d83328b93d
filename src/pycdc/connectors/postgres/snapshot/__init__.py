"""Read the rows that exist, once and again while the stream goes on."""
