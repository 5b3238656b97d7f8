//! YAML as a tree in which every value and key knows its line.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Options, Spanned};

use super::MAXIMUM_BYTES;
use super::origin::Origin;
use super::problem::{Position, Problem};
use super::spelling::quoted;

/// How YAML is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// YAML 1.2 for files of this program's own: one document, no anchors, `true` and `false` alone are truth values.
    Strict,
    /// What programs of Kubernetes accept (Go's YAML 1.1): several documents, anchors, aliases and merge keys, `yes` and
    /// `no`, keys that are numbers, `2.0` where a whole number belongs.
    Kubernetes,
}

/// A value of a file and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    pub(super) content: Content,
    /// Of a scalar its first character; of a mapping or list that of its first entry.
    pub(super) position: Position,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Whole(u64),
    Negative(i64),
    Real(f64),
    Text(String),
    List(Vec<Node>),
    /// In file order; a key may stand twice.
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) position: Position,
}

impl Content {
    /// What the value is, for `found …`.
    pub(super) fn found(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => format!("the truth value `{value}`"),
            Self::Whole(value) => format!("the number `{value}`"),
            Self::Negative(value) => format!("the number `{value}`"),
            Self::Real(value) => format!("the number `{value}`"),
            Self::Text(text) => format!("the text {}", quoted(text)),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Reads the documents of a text; where nothing but one document is allowed, exactly one.
pub(super) fn read(dialect: Dialect, text: &str, origin: &Origin<'_>) -> Result<Vec<Node>, Box<Problem>> {
    refuse_early(text, origin)?;
    let read = match dialect {
        Dialect::Strict => serde_saphyr::from_str_with_options(text, options(dialect)).map(|one| vec![one]),
        Dialect::Kubernetes => serde_saphyr::from_multiple_with_options(text, options(dialect)),
    };
    let documents: Vec<Spanned<Bare>> = read.map_err(|error| Box::new(syntax(&error, origin)))?;
    let mut nodes: Vec<Node> = documents.into_iter().map(Node::from).collect();
    for node in &mut nodes {
        node.settle(dialect, origin);
    }
    Ok(nodes)
}

impl Node {
    /// Puts places within the text where the text stands in its file, and whole numbers where Go's YAML has them.
    fn settle(&mut self, dialect: Dialect, origin: &Origin<'_>) {
        self.position = origin.place(self.position);
        match &mut self.content {
            Content::Map(entries) => {
                for (key, value) in entries {
                    key.position = origin.place(key.position);
                    value.settle(dialect, origin);
                }
            }
            Content::List(items) => items.iter_mut().for_each(|item| item.settle(dialect, origin)),
            Content::Real(value) if dialect == Dialect::Kubernetes => {
                if let Some(whole) = whole(*value) {
                    self.content = whole;
                }
            }
            Content::Null
            | Content::Bool(_)
            | Content::Whole(_)
            | Content::Negative(_)
            | Content::Real(_)
            | Content::Text(_) => {}
        }
    }
}

/// A number without a fraction as a whole one, as far as a double is exact.
fn whole(value: f64) -> Option<Content> {
    let digits = (value.fract() == 0.0 && value.abs() < 9e15).then(|| format!("{value:.0}"))?;
    match digits.parse::<u64>() {
        Ok(whole) => Some(Content::Whole(whole)),
        Err(_negative) => digits.parse().ok().map(Content::Negative),
    }
}

/// Refuses what the reader would take long over or explain badly.
fn refuse_early(text: &str, origin: &Origin<'_>) -> Result<(), Box<Problem>> {
    let whole = |position, message: String, fix: &str| {
        let position = origin.place(position);
        Err(Box::new(Problem { position, path: String::new(), message, fix: Some(fix.to_owned()) }))
    };
    if text.len() > MAXIMUM_BYTES {
        let message = format!("the file has {} bytes, more than the {MAXIMUM_BYTES} that are read", text.len());
        return whole(Position::START, message, "check that it is the right file");
    }
    if let Some(at) = text.find(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}')) {
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let character = text.get(at..).and_then(|rest| rest.chars().next()).unwrap_or_default();
        let message = format!("the control character {} cannot stand in YAML", quoted(&character.to_string()));
        let position = Position { line: line as u64, column: column as u64 };
        return whole(position, message, "remove it, or check that the file is plain text");
    }
    Ok(())
}

fn options(dialect: Dialect) -> Options {
    let kubernetes = dialect == Dialect::Kubernetes;
    let (anchors, documents) = if kubernetes { (1000, 100) } else { (0, 1) };
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_aliases: anchors,
            max_anchors: anchors,
            max_nodes: 100_000,
            max_documents: documents,
            max_merge_keys: anchors,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 50_000, max_replay_stack_depth: 16 },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: if kubernetes { MergeKeyPolicy::Merge } else { MergeKeyPolicy::Error },
        strict_booleans: !kubernetes,
        legacy_octal_numbers: kubernetes,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        reject_unsupported_tags: !kubernetes,
        with_snippet: false,
    }
}

/// The problem of a text that is no YAML, with its line and a mark under the column.
fn syntax(error: &serde_saphyr::Error, origin: &Origin<'_>) -> Problem {
    let position = origin.place(error.location().map_or(Position::START, Position::from));
    let (message, fix) = explain(error);
    let excerpt = origin.line(position.line).filter(|line| line.chars().count() <= 200).map(|line| {
        let number = position.line.to_string();
        let indent = usize::try_from(position.column.saturating_sub(1)).unwrap_or_default();
        let gap: String = line.chars().take(indent).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        format!("\n  {number} | {line}\n  {:width$} | {gap}^", "", width = number.len())
    });
    Problem { position, path: String::new(), message: message + &excerpt.unwrap_or_default(), fix }
}

/// What the reader refused, in this program's words where it is a rule of this program's.
#[expect(clippy::wildcard_enum_match_arm, reason = "of the reader's sixty errors six are rules of this program")]
fn explain(error: &serde_saphyr::Error) -> (String, Option<String>) {
    use serde_saphyr::Error;
    use serde_saphyr::budget::BudgetBreach;

    let with = |message: &str, fix: &str| (message.to_owned(), Some(fix.to_owned()));
    let too_many_aliases = || with("aliases make the file too large", "write the values out");
    match error.without_snippet() {
        Error::Budget { breach: BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. }, .. } => {
            with("anchors (`&name`) and aliases (`*name`) are not read", "write the value out at each place")
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            with("values are nested more than 32 deep", "no file of cotenant's needs that: check the brackets")
        }
        Error::AliasReplayLimitExceeded { .. } | Error::AliasReplayStackDepthExceeded { .. } => too_many_aliases(),
        // Told of by the alias and by what it stands for.
        Error::AliasError { error, .. } => explain(error),
        Error::MultipleDocuments { .. } | Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            with("a second document begins", "remove the `---`: a file holds one document")
        }
        Error::MergeKeyNotAllowed { .. } => with("merge keys (`<<`) are not read", "write the keys out"),
        other => {
            let text = other.to_string();
            let end = text.find(" at line ").unwrap_or(text.len());
            (format!("not YAML: {}", text.get(..end).unwrap_or(&text)), None)
        }
    }
}

impl From<Location> for Position {
    fn from(location: Location) -> Self {
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

impl From<Spanned<Bare>> for Node {
    fn from(spanned: Spanned<Bare>) -> Self {
        Self { content: spanned.value.0, position: spanned.referenced.into() }
    }
}

/// A value before its place is known.
struct Bare(Content);

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Whole(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(u64::try_from(value).map_or(Content::Negative(value), Content::Whole))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Real(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Content, E> {
        Ok(Content::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Bare>>()? {
            list.push(item.into());
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<Bare>>()? {
            let name = match key.value.0 {
                Content::Text(name) => name,
                Content::Bool(value) => value.to_string(),
                Content::Whole(value) => value.to_string(),
                other @ (Content::Null
                | Content::Negative(_)
                | Content::Real(_)
                | Content::List(_)
                | Content::Map(_)) => {
                    return Err(A::Error::custom(format!("{} stands where a key belongs", other.found())));
                }
            };
            let position = Position::from(key.referenced);
            let mut value: Node = entries.next_value::<Spanned<Bare>>()?.into();
            if matches!(value.content, Content::Null) {
                value.position = position;
            }
            map.push((Key { name, position }, value));
        }
        Ok(Content::Map(map))
    }
}
