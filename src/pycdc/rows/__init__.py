"""The only per-column code: splitting rows, the codecs of the types, and the functions compiled from both."""
