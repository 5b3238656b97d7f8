//! Who uses what: from process ids to containers, what containers did to their limits, and both beside what they hold.

pub mod attribution;
pub mod cgroup;
pub mod inspection;
