//! The proxy's decisions: services and endpoints in, ruleset and differences out.
