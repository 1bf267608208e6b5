//! The node: a driver per instance, the gate that checks every capability call, restart policy, facts.
