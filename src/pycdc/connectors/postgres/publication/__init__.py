"""Keep the publication and the configuration in step."""
