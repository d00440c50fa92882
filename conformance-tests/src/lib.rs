//! The public conformance suite for lock backends.
