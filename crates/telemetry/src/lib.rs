//! Logs and metrics behind one init() -> Guard.
