//! The agent as a whole: every outside world with its task, and one loop that owns the state.
