//! The daemon of a node: what a GPU offers, served to the kubelet and kept true.
