//! Takes requests, picks a node, and tells what the nodes report. Cannot run code.
