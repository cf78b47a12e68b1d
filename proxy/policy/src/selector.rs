//! Label selectors (`metav1.LabelSelector`).

use std::collections::{BTreeMap, BTreeSet};

/// An object's labels.
pub type Labels = BTreeMap<Box<str>, Box<str>>;

/// All requirements have to hold; without any, everything is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector(BTreeSet<Requirement>);

/// What one label has to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requirement {
    /// It has one of these values (`matchLabels`, `In`).
    In(Box<str>, BTreeSet<Box<str>>),
    /// It has none of these values, or is absent (`NotIn`).
    NotIn(Box<str>, BTreeSet<Box<str>>),
    /// It is there (`Exists`).
    Exists(Box<str>),
    /// It is absent (`DoesNotExist`).
    Absent(Box<str>),
}

impl Selector {
    /// True if an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }
}

impl FromIterator<Requirement> for Selector {
    fn from_iter<I: IntoIterator<Item = Requirement>>(requirements: I) -> Self {
        Self(requirements.into_iter().collect())
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::Absent(key) => !labels.contains_key(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn a_selector_is_the_conjunction_of_its_requirements() {
        let web = labels(&[("app", "web"), ("tier", "front")]);
        let values = |values: &[&str]| values.iter().map(|value| Box::from(*value)).collect();
        let of = |requirements: Vec<Requirement>| requirements.into_iter().collect::<Selector>();
        for (selector, expected) in [
            (of(vec![]), true),
            (
                of(vec![Requirement::In("app".into(), values(&["db", "web"]))]),
                true,
            ),
            (of(vec![Requirement::In("app".into(), values(&["db"]))]), false),
            (of(vec![Requirement::In("zone".into(), values(&["a"]))]), false),
            (
                of(vec![Requirement::NotIn("app".into(), values(&["web"]))]),
                false,
            ),
            (of(vec![Requirement::NotIn("zone".into(), values(&["a"]))]), true),
            (of(vec![Requirement::Exists("tier".into())]), true),
            (of(vec![Requirement::Absent("tier".into())]), false),
            (
                of(vec![
                    Requirement::Exists("app".into()),
                    Requirement::Absent("app".into()),
                ]),
                false,
            ),
        ] {
            assert_eq!(selector.matches(&web), expected, "{selector:?}");
        }
    }
}
