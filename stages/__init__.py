"""The stages of the pipeline, a module each: it takes a config, calls samebox and writes an artifact."""
