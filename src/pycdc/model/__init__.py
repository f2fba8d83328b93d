"""The nouns of the engine, without I/O."""
