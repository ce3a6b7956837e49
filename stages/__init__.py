"""The stages of the pipeline, one thin module each: config in, one call of samebox, artifact out."""
