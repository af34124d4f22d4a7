//! Files and the environment as layers, one over the other, key by key.
//!
//! Invariant: every value remembers the file and line, or the variable, that it came from, through all merging. The `config` crate
//! merges and carries the places; the lines come from the TOML parser's spans.

use std::collections::{BTreeMap, BTreeSet};

use config::{Map, Source, Value, ValueKind};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::mistake::{Mistake, Place};

/// Environment variables that begin so are settings: `HEADWATER__DEVICE__ID` is `device.id`.
pub const VARIABLES: &str = "HEADWATER__";

/// The keys from the root to a setting.
pub(super) type Path = Vec<String>;

/// What one file or the environment says.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    /// Its values, each with its place.
    pub values: Map<String, Value>,
    /// Where each table begins: the `config` crate keeps the places of values only.
    pub tables: BTreeMap<Path, Place>,
    /// What could not be read of it.
    pub mistakes: Vec<Mistake>,
    /// Settings that it has, but that no value could be read for.
    pub left_out: Vec<Path>,
    /// Some of it could not be read at all, so nobody knows what else it has.
    pub incomplete: bool,
    /// Lines about which the parser could only guess.
    pub guessed: BTreeSet<Place>,
}

/// Beyond so many lines that are no TOML, the rest is a number: the file is probably not a configuration at all.
const MOST_SYNTAX_MISTAKES: usize = 20;

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.values.clone())
    }
}

impl Layer {
    /// Reads a TOML file; what is no TOML is left out and reported.
    pub(super) fn from_toml(file: &str, text: &str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader::new(file, text);
        for error in errors {
            let place = reader.place(error.span().map_or(0, |span| span.start));
            let message = error.message();
            reader.layer.incomplete = true;
            reader.layer.guessed.insert(place.clone());
            let unended_list = message.contains("array");
            if unended_list || message.contains("unclosed table") {
                // Up to the next table, nobody knows which one these lines belong to.
                let first = place.line.unwrap_or(1);
                let belong = |line: &&str| unended_list || !line.trim_start().starts_with('[');
                let lines = text.lines().skip(first).take_while(belong).count();
                reader.layer.guessed.extend((first + 1..=first + lines).map(|line| Place::line(file, line)));
            }
            // One slip makes the parser stumble several times, and after a list without an end it reads the rest as list.
            if reader.layer.mistakes.last().is_none_or(|last| last.place != place) {
                reader.layer.mistakes.push(Mistake::new(place, syntax_mistake(message)));
            }
            if unended_list {
                break;
            }
        }
        let more = reader.layer.mistakes.len().saturating_sub(MOST_SYNTAX_MISTAKES);
        if more > 1 {
            reader.layer.mistakes.truncate(MOST_SYNTAX_MISTAKES + 1);
            reader.layer.mistakes[MOST_SYNTAX_MISTAKES].text =
                format!("this and {} more lines are no TOML; give a configuration file", more - 1);
        }
        let mut values = reader.table(&mut Vec::new(), root.get_ref());
        // At the root, and only there, the `config` crate takes a key for an expression: "a.b" would become the table a.
        for (key, value) in values.extract_if(|key, _| key.contains(['.', '['])) {
            let place = value.origin().map_or_else(|| Place::whole(file), Place::parse);
            reader.layer.mistakes.push(Mistake::new(place, format!("unknown key {key:?}; write it without quotes or remove it")));
        }
        reader.layer.values = values;
        reader.layer
    }

    /// A file that could not be read.
    pub(super) fn unreadable(mistake: Mistake) -> Self {
        Self { mistakes: vec![mistake], incomplete: true, ..Self::default() }
    }

    /// Puts the settings among `variables` over what is there. A variable's name matches a setting's whatever its case, `_` standing
    /// for `-` and `.` too, because a shell allows nothing else in it.
    pub(super) fn put_environment(&mut self, variables: &[(String, String)]) {
        for (variable, text) in variables {
            let Some(name) = variable.strip_prefix(VARIABLES) else { continue };
            let names: Vec<_> = name.split("__").collect();
            if names.iter().any(|name| name.is_empty()) {
                let text = format!("this names no setting; write for example {VARIABLES}DEVICE__ID");
                self.mistakes.push(Mistake::new(Place::whole(variable), text));
            } else {
                put(&mut self.values, &names, Value::new(Some(variable), ValueKind::String(text.clone())));
            }
        }
    }

    /// Where the value at `path` came from, or the innermost table around it that stands in a file.
    pub(super) fn place(&self, path: &[String], element: Option<usize>) -> Place {
        let value = find(&self.values, path).map(|value| match (&value.kind, element) {
            (ValueKind::Array(items), Some(n)) => items.get(n).unwrap_or(value),
            _ => value,
        });
        let own = value.and_then(Value::origin).map(Place::parse);
        let around = || (0..=path.len()).rev().find_map(|n| self.tables.get(&path[..n]).cloned());
        own.or_else(around).unwrap_or_else(|| Place::whole("the configuration"))
    }
}

/// Merges `layers`, later ones over earlier ones; an array replaces the whole array.
pub(super) fn merge(layers: &[Layer]) -> Layer {
    let mut builder = config::Config::builder();
    let mut merged = Layer::default();
    for layer in layers {
        builder = builder.add_source(layer.clone());
        merged.tables.extend(layer.tables.clone());
        merged.mistakes.extend(layer.mistakes.iter().cloned());
        merged.left_out.extend(layer.left_out.iter().cloned());
        merged.incomplete |= layer.incomplete;
        merged.guessed.extend(layer.guessed.iter().cloned());
    }
    // Every source is in memory already, and `Layer::collect` has no way to fail.
    merged.values = builder.build().and_then(|merged| merged.collect()).expect("layers in memory can be collected");
    merged
}

/// The value at `path`.
pub(super) fn find<'a>(root: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (last, tables) = path.split_last()?;
    let mut table = root;
    for key in tables {
        let ValueKind::Table(inner) = &table.get(key)?.kind else { return None };
        table = inner;
    }
    table.get(last)
}

fn put(table: &mut Map<String, Value>, names: &[&str], value: Value) {
    let Some((name, rest)) = names.split_first() else { return };
    let plain = |key: &str| key.replace(['-', '.'], "_");
    let key = table.keys().find(|key| plain(key).eq_ignore_ascii_case(name)).cloned();
    let key = key.unwrap_or_else(|| name.to_ascii_lowercase());
    if rest.is_empty() {
        table.insert(key, value);
        return;
    }
    let inner = table.entry(key).or_insert_with(|| Value::new(None, ValueKind::Nil));
    if !matches!(inner.kind, ValueKind::Table(_)) {
        inner.kind = ValueKind::Table(Map::new());
    }
    if let ValueKind::Table(inner) = &mut inner.kind {
        put(inner, rest, value);
    }
}

struct Reader<'a> {
    file: &'a str,
    line_ends: Vec<usize>,
    layer: Layer,
}

impl<'a> Reader<'a> {
    fn new(file: &'a str, text: &str) -> Self {
        Self { file, line_ends: text.match_indices('\n').map(|(at, _)| at).collect(), layer: Layer::default() }
    }

    fn place(&self, offset: usize) -> Place {
        Place::line(self.file, self.line_ends.partition_point(|end| *end < offset) + 1)
    }

    fn table(&mut self, path: &mut Path, table: &DeTable) -> Map<String, Value> {
        let mut values = Map::new();
        for (key, value) in table {
            let name = key.get_ref().to_string();
            path.push(name.clone());
            let place = self.place(key.span().start);
            if let Some(value) = self.value(path, value.get_ref(), &place) {
                values.insert(name, value);
            }
            path.pop();
        }
        values
    }

    fn value(&mut self, path: &mut Path, value: &DeValue, place: &Place) -> Option<Value> {
        let kind = match value {
            DeValue::String(text) => ValueKind::String(text.to_string()),
            DeValue::Boolean(truth) => ValueKind::Boolean(*truth),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => ValueKind::I64(number),
                Err(_) => {
                    return self.refuse(place, path, &format!("{number}, beyond all numbers that we know; write a smaller one"));
                }
            },
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => ValueKind::Float(number),
                Err(_) => return self.refuse(place, path, &format!("{number}, which is no number")),
            },
            DeValue::Datetime(date) => return self.refuse(place, path, &format!("a date; write it as text: \"{date}\"")),
            DeValue::Array(items) => ValueKind::Array(items.iter().filter_map(|item| self.item(path, item)).collect()),
            DeValue::Table(table) => {
                self.layer.tables.insert(path.clone(), place.clone());
                ValueKind::Table(self.table(path, table))
            }
        };
        Some(Value::new(Some(&place.to_string()), kind))
    }

    fn item(&mut self, path: &mut Path, item: &Spanned<DeValue>) -> Option<Value> {
        let place = self.place(item.span().start);
        self.value(path, item.get_ref(), &place)
    }

    fn refuse(&mut self, place: &Place, path: &Path, why: &str) -> Option<Value> {
        self.layer.left_out.push(path.clone());
        // The parser leaves nothing of a value that it could not read, and has said so.
        if !self.layer.guessed.contains(place) {
            self.layer.mistakes.push(Mistake::new(place.clone(), format!("{} is {why}", path.join("."))));
        }
        None
    }
}

/// The parser's words, where they leave a technician alone, in ours.
fn syntax_mistake(message: &str) -> String {
    const KNOWN: [(&str, &str); 9] = [
        ("must be quoted", "this is text without quotes; write \" before and after it"),
        ("basic string", "this text has no end, or a \\ that means nothing; write \" after it, and \\\\ for a \\"),
        ("unclosed table", "this table's name has no end; write ] after it"),
        ("duplicate key", "this stands here for the second time; remove one of the two"),
        ("key with no value", "this is a key without a value; write KEY = VALUE"),
        ("unexpected key or value", "something follows the value; write it on a line of its own or remove it"),
        ("leading zero", "this number begins with 0; write it without, or as text in quotes"),
        ("inline table", "this { } is not complete; write { KEY = VALUE, KEY = VALUE }"),
        ("array", "this list is not complete; write [ before it, a comma between two values, and ] after it"),
    ];
    let known = KNOWN.iter().find(|(part, _)| message.contains(part));
    known
        .map_or_else(|| format!("this is not TOML ({message}); write KEY = VALUE as toml.io shows"), |(_, text)| (*text).to_owned())
}

/// The value of a variable that is wanted as something else than text: `20`, `true`, `["a", "b"]`, `{ a = "b" }`.
pub(super) fn read_variable(variable: &str, text: &str) -> Option<Value> {
    let parsed = DeValue::parse(text).ok()?;
    Reader::new(variable, text).value(&mut Vec::new(), parsed.get_ref(), &Place::whole(variable))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toml::Table;

    use super::*;
    use crate::fuzz::tests::cases;

    /// Settings up to three tables deep, with names from so few that layers meet.
    fn table() -> impl Strategy<Value = Table> {
        let name = || prop::sample::select(vec!["a", "b", "c-d", "e"]);
        let value = prop_oneof![
            any::<i64>().prop_map(toml::Value::from),
            any::<bool>().prop_map(toml::Value::from),
            "\\PC{0,4}".prop_map(toml::Value::from),
            prop::collection::vec(any::<i64>().prop_map(toml::Value::from), 0..3).prop_map(toml::Value::Array),
        ];
        let value = value.prop_recursive(3, 12, 3, move |inner| {
            prop::collection::btree_map(name(), inner, 0..4).prop_map(|map| toml::Value::Table(as_table(map)))
        });
        prop::collection::btree_map(name(), value, 0..4).prop_map(as_table)
    }

    fn as_table(map: BTreeMap<&str, toml::Value>) -> Table {
        map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn put_over(below: &mut Table, above: Table) {
        for (key, value) in above {
            match (below.get_mut(&key), value) {
                (Some(toml::Value::Table(below)), toml::Value::Table(above)) => put_over(below, above),
                (_, value) => drop(below.insert(key, value)),
            }
        }
    }

    fn plain(values: &Map<String, Value>) -> Table {
        let plain_value = |value: &Value| value.clone().try_deserialize::<toml::Value>().unwrap();
        values.iter().map(|(key, value)| (key.clone(), plain_value(value))).collect()
    }

    proptest! {
        #![proptest_config(cases(128))]

        #[test]
        fn later_layers_win_key_by_key_and_every_value_knows_its_layer(layers in prop::collection::vec(table(), 0..4)) {
            let read = |(n, table): (usize, &Table)| Layer::from_toml(&format!("layer-{n}"), &table.to_string());
            let merged = merge(&layers.iter().enumerate().map(read).collect::<Vec<_>>());
            let mut expected = Table::new();
            layers.iter().for_each(|layer| put_over(&mut expected, layer.clone()));

            prop_assert!(merged.mistakes.is_empty(), "{:?}", merged.mistakes);
            prop_assert_eq!(plain(&merged.values), expected);
            for (key, value) in merged.values.iter().filter(|(_, value)| !matches!(value.kind, ValueKind::Table(_))) {
                let last = layers.iter().rposition(|layer| layer.contains_key(key)).unwrap();
                prop_assert!(value.origin().unwrap().starts_with(&format!("layer-{last}:")), "{key} of {:?}", value.origin());
            }
        }
    }
}
