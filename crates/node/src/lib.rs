//! The daemon of a node: what its GPUs offer, served to the kubelet and kept true.
//!
//! This room owns the two processes of a node. [`agent::app::run`] is the agent: it reads the configuration, offers devices,
//! supervises MPS, notices faults and recovers, waits with edits until they disturb nobody, labels the node and shows what it
//! does ([`serve`], [`usage`]). [`keeper`] owns the MPS control daemons, so that they outlive the agent. It refuses to decide in
//! tasks: everything that happens becomes an event of one pure function, [`agent::state::State::step`], and what follows is an
//! action of it; to disturb a pod that runs unless the configuration allows it, or its GPU has failed already; and to name a
//! culprit that it does not know.
//!
//! ```text
//!  configuration ─┐                                        ┌─▶ kubelet: devices, health, answers
//!  GPUs, XIDs ────┤                                        ├─▶ keeper: daemons, compute modes
//!  keeper, logs ──┼─▶ events ──▶ State::step ──▶ actions ──┼─▶ processes: signals, in the safe order
//!  kubelet ───────┤                  │                     ├─▶ API server: labels, Events, evictions
//!  deadlines ─────┘                  └─▶ picture           └─▶ state file
//!                                         ├─ /metrics /healthz /readyz
//!                                         └─ node.sock (`cotenant node status`)
//! ```
//!
//! A GPU's life is drawn in [`agent::state::gpu`], a daemon's in [`keeper`].
//!
//! Proved on simulated GPUs, simulated MPS, a fake kubelet and a fake API server by `crates/cotenant/tests/node`, where agent and
//! keeper are processes that are killed; with a real kubelet by `e2e`. An H200 with driver 580 has shown start, limits, fault and
//! recovery, killed daemons, agents and keepers (`results/h200`). Cards that are lost or report XIDs, MIG layouts being applied
//! and protocol 3 have been seen simulated only.

pub mod agent;
mod clock;
pub mod keeper;
pub mod serve;
pub mod usage;
