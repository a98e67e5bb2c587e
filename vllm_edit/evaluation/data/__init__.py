"""Published editing data, read into one record type."""
