//! Prometheus' text format, read strictly: what a page of metrics says, line by line.

use std::collections::BTreeMap;

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// The family, with `_bucket`, `_sum` or `_count` where it has one.
    pub(crate) name: String,
    /// Labels by name.
    pub(crate) labels: BTreeMap<String, String>,
    /// The value.
    pub(crate) value: f64,
    /// When it was so, if the line says.
    pub(crate) time_ms: Option<i64>,
}

impl Sample {
    /// A label's value, empty when there is none.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// How much later than `other` this was so.
    #[track_caller]
    pub(crate) fn seconds_since(&self, other: &Self) -> f64 {
        let (Some(then), Some(now)) = (other.time_ms, self.time_ms) else {
            panic!("no time: {other:?} {self:?}");
        };
        #[allow(clippy::cast_precision_loss, reason = "a time between two scrapes")]
        let milliseconds = (now - then) as f64;
        milliseconds / 1000.0
    }

    /// The names of its labels.
    pub(crate) fn label_names(&self) -> String {
        self.labels
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(",")
    }
}

/// All lines but comments. Every family must have said its type before, and no line may come twice.
#[track_caller]
pub(crate) fn parse(text: &str) -> Vec<Sample> {
    let mut types = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').expect("a type has a name and a kind");
            assert_eq!(
                types.insert(name, kind),
                None,
                "the type of {name} is given twice"
            );
        }
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let sample = sample(line).unwrap_or_else(|| panic!("no sample: {line}"));
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| sample.name.strip_suffix(suffix))
            .unwrap_or(&sample.name);
        assert!(
            types.contains_key(sample.name.as_str()) || types.contains_key(base),
            "no type of {line}"
        );
        assert!(
            seen.insert((sample.name.clone(), sample.labels.clone())),
            "twice: {line}"
        );
        samples.push(sample);
    }
    samples
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        while !inside.starts_with('}') {
            let (label, value) = inside.split_once("=\"")?;
            let (value, after) = unquote(value)?;
            labels.insert(label.to_owned(), value);
            inside = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &inside[1..];
    }
    let mut words = rest.split_whitespace();
    let value = words.next()?.parse().ok()?;
    let time_ms = words
        .next()
        .map(|word| word.parse().expect("a time in milliseconds"));
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
        time_ms,
    })
}

/// A quoted text up to its end, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut plain = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((plain, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => plain.push('\n'),
                other => plain.push(other),
            },
            other => plain.push(other),
        }
    }
    None
}
