//! `cotenant node`.
