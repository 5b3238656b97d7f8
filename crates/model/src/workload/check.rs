use super::{Workload, raw};
use crate::document::{Lines, Problems};
pub(super) fn workload(_raw: raw::Workload, _lines: Lines) -> Result<Workload, Problems> {
    Err(Problems)
}
