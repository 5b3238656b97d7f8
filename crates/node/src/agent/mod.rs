//! The agent: its mind ([`state`]), its body ([`app`]), and what it is started with ([`options`], [`source`]).

pub mod app;
pub mod options;
pub mod plugins;
pub mod served;
pub mod source;
pub mod state;
