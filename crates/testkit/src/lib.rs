//! Fakes on the real wire, for tests only.
