//! Types of configuration values: what a document may hold, and how a flag or a default writes it.

use std::net::IpAddr;

use gantry_agent_core::quantity::Quantity as ParsedQuantity;
use serde_json::{Map, Number, Value, json};

use super::duration;

/// Type and allowed values of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Bool,
    /// An integer in an inclusive range.
    Int(i64, i64),
    /// A floating point number.
    Float,
    /// A Go duration.
    Duration,
    /// A Go duration, or nanoseconds as an integer.
    DurationOrNanos,
    /// An IPv4 or IPv6 address.
    Ip,
    /// Any text.
    Str,
    /// One of a few texts.
    OneOf(&'static [&'static str]),
    /// A resource quantity, as text or number.
    Quantity,
    /// A list of texts; as a flag: separated by commas.
    StrList,
    /// A list of integers.
    IntList,
    /// Texts by name; as a flag: `name<sep>value` separated by commas.
    StrMap(char),
    /// Resource quantities by name.
    QuantityMap(char),
    /// Booleans by name.
    BoolMap,
    /// Node taints; as a flag: `key=value:effect` separated by commas.
    Taints,
    /// An object (`{`) or list (`[`) that the agent does not look into.
    Opaque(char),
}

impl Kind {
    /// Is the value of this type and within its limits? Else what is allowed, in words.
    pub(crate) fn check(self, value: &Value) -> Result<(), String> {
        let text = |ok: fn(&str) -> bool| value.as_str().is_some_and(ok);
        let ok = match self {
            Self::Bool => value.is_boolean(),
            Self::Int(min, max) => value.as_i64().is_some_and(|n| (min..=max).contains(&n)),
            Self::Float => value.is_number(),
            Self::Duration => text(|t| duration::parse_nanos(t).is_ok()),
            Self::DurationOrNanos => {
                value.is_i64() || value.is_u64() || text(|t| duration::parse_nanos(t).is_ok())
            }
            Self::Ip => text(|t| t.is_empty() || t.parse::<IpAddr>().is_ok()),
            Self::Str => value.is_string(),
            // An empty text is a zero value: the default. Whether the default itself is allowed is the table's matter.
            Self::OneOf(allowed) => value
                .as_str()
                .is_some_and(|t| t.is_empty() || allowed.contains(&t)),
            Self::Quantity => {
                value.is_number() || text(|t| t.is_empty() || t.parse::<ParsedQuantity>().is_ok())
            }
            Self::StrList => value
                .as_array()
                .is_some_and(|list| list.iter().all(Value::is_string)),
            Self::IntList => value
                .as_array()
                .is_some_and(|list| list.iter().all(Value::is_i64)),
            Self::StrMap(_) => value
                .as_object()
                .is_some_and(|map| map.values().all(Value::is_string)),
            Self::QuantityMap(_) => value.as_object().is_some_and(|map| {
                map.values()
                    .all(|v| v.as_str().is_some_and(|t| t.parse::<ParsedQuantity>().is_ok()))
            }),
            Self::BoolMap => value
                .as_object()
                .is_some_and(|map| map.values().all(Value::is_boolean)),
            Self::Taints => value.as_array().is_some_and(|list| list.iter().all(is_taint)),
            Self::Opaque(open) => {
                if open == '{' {
                    value.is_object()
                } else {
                    value.is_array()
                }
            }
        };
        if ok { Ok(()) } else { Err(self.allowed()) }
    }

    /// What is allowed, in words, for error messages.
    pub(crate) fn allowed(self) -> String {
        match self {
            Self::Bool => "true or false".into(),
            Self::Int(min, max) => format!("an integer between {min} and {max}"),
            Self::Float => "a number".into(),
            Self::Duration => "a duration such as \"10s\" or \"1m30s\"".into(),
            Self::DurationOrNanos => "a duration such as \"5s\", or a number of nanoseconds".into(),
            Self::Ip => "an IP address".into(),
            Self::Str => "a string".into(),
            Self::OneOf(allowed) => format!("one of {allowed:?}"),
            Self::Quantity => "a quantity such as \"10Mi\"".into(),
            Self::StrList => "a list of strings".into(),
            Self::IntList => "a list of integers".into(),
            Self::StrMap(_) => "a map of strings".into(),
            Self::QuantityMap(_) => "a map of quantities such as {\"cpu\": \"100m\", \"memory\": \"1Gi\"}".into(),
            Self::BoolMap => "a map of true or false".into(),
            Self::Taints => "a list of taints with key, optional value, and effect NoSchedule, PreferNoSchedule or NoExecute".into(),
            Self::Opaque(open) => (if open == '{' { "an object" } else { "a list" }).into(),
        }
    }

    /// The value that a flag's (or the table's) text stands for. Checked by the caller with [`Kind::check`].
    ///
    /// # Errors
    /// What is allowed, in words.
    pub(crate) fn read(self, text: &str) -> Result<Value, String> {
        let fail = || self.allowed();
        Ok(match self {
            Self::Bool => Value::Bool(parse_bool(text).ok_or_else(fail)?),
            Self::Int(..) => Value::Number(text.parse::<i64>().map_err(|_| fail())?.into()),
            Self::Float => json!(text.parse::<f64>().map_err(|_| fail())?),
            Self::Duration
            | Self::DurationOrNanos
            | Self::Ip
            | Self::Str
            | Self::OneOf(_)
            | Self::Quantity => Value::String(text.to_owned()),
            Self::StrList => items(text).map(|item| Value::String(item.to_owned())).collect(),
            Self::IntList => items(text)
                .map(|item| {
                    item.parse::<i64>()
                        .map(|n| Value::Number(Number::from(n)))
                        .map_err(|_| fail())
                })
                .collect::<Result<_, _>>()?,
            Self::StrMap(sep) | Self::QuantityMap(sep) => Value::Object(
                items(text)
                    .map(|item| {
                        let (key, value) = item
                            .split_once(sep)
                            .ok_or_else(|| format!("pairs of name{sep}value"))?;
                        Ok((key.trim().to_owned(), Value::String(value.trim().to_owned())))
                    })
                    .collect::<Result<Map<_, _>, String>>()?,
            ),
            Self::BoolMap => Value::Object(
                items(text)
                    .map(|item| {
                        let (key, value) = item.split_once('=').ok_or("pairs of Name=true or Name=false")?;
                        let value = parse_bool(value.trim()).ok_or("pairs of Name=true or Name=false")?;
                        Ok((key.trim().to_owned(), Value::Bool(value)))
                    })
                    .collect::<Result<Map<_, _>, String>>()?,
            ),
            Self::Taints => items(text)
                .map(|item| read_taint(item).ok_or_else(fail))
                .collect::<Result<_, _>>()?,
            Self::Opaque(open) => match (text, open) {
                ("", '{') => json!({}),
                ("", _) => json!([]),
                _ => return Err("a value in the configuration file; the flag is not supported".into()),
            },
        })
    }

    /// The API's zero value of this type.
    pub(crate) fn is_zero(self, value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Bool(on) => !on,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => match self {
                Self::Duration | Self::DurationOrNanos => duration::parse_nanos(text) == Ok(0),
                _ => text.is_empty(),
            },
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
        }
    }
}

/// Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The parts of a comma separated text; none of an empty one.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|item| !item.is_empty())
}

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

fn is_taint(value: &Value) -> bool {
    let text = |name: &str| value.get(name).map_or(Some(""), Value::as_str);
    text("key").is_some_and(|key| !key.is_empty())
        && text("value").is_some()
        && text("effect").is_some_and(|effect| EFFECTS.contains(&effect))
}

/// `key=value:effect` or `key:effect`.
fn read_taint(text: &str) -> Option<Value> {
    let (name, effect) = text.rsplit_once(':')?;
    let (key, value) = name.split_once('=').unwrap_or((name, ""));
    let taint = json!({"key": key, "value": value, "effect": effect});
    is_taint(&taint).then_some(taint)
}
