//! What guests can be granted: the Provider trait and the key-value provider with its backends.
