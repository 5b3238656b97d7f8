//! Lists of which single items may be unreadable.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

/// The schema's word for a list that keeps the places of items which could not be read.
pub(super) const SPARSE: &str = "x-sparse";

/// A list whose items that cannot be read are left out, so that the others are checked all the same.
///
/// In a plain `Vec` one such item makes the whole list unreadable.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Items<T>(Vec<Option<T>>);

impl<T> Items<T> {
    /// The items that could be read, with their index in the file.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.0.iter().enumerate().filter_map(|(index, item)| Some((index, item.as_ref()?)))
    }

    /// Whether the file has no item, readable or not.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: JsonSchema> JsonSchema for Items<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Items_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Vec::<T>::json_schema(generator);
        schema.insert(SPARSE.to_owned(), true.into());
        schema
    }
}
