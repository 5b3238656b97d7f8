//! Who uses what.

pub mod cgroup;
