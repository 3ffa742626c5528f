//! The control plane: what users asked for.
