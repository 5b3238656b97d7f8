//! Resident daemons through real processes.
