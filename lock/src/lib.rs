//! One lock API over the stores people already run.
