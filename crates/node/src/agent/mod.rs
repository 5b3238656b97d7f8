//! The agent.

pub mod options;
pub mod plugins;
pub mod source;
pub mod state;
