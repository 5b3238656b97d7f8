//! The Kubernetes API: labels, events, pods and the objects of an installation.
