//! Comparisons: tenants as processes, arms, schedule, statistics, report.
//!
//! This room owns `cotenant compare`: it starts each tenant as a process of its own under each arm, measures the same
//! window in all of them at once, and derives every table and plot from the record of that.

pub mod clock;
pub mod compare;
pub mod protocol;
pub mod report;
pub mod store;
pub mod summary;
pub mod tenant;
pub mod tuner;
