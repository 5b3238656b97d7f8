//! The agent.

pub mod app;
pub mod options;
pub mod plugins;
pub mod served;
pub mod source;
pub mod state;
