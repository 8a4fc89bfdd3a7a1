"""The DVC stages, one script each: read the parameters, call the library, write the outputs."""
