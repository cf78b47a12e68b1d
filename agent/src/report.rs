//! Errors for the log: the whole chain of causes in one line, where the error is handled.

use std::{error::Error, fmt};

/// Displays an error, then its causes, separated by `: `. A cause that the text before it ends with already is left
/// out.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        f.write_str(&text)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                write!(f, ": {cause_text}")?;
            }
            text = cause_text;
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write: {source}")]
    struct Outer {
        source: io::Error,
    }

    #[test]
    fn causes_are_shown_once() {
        let inner = io::Error::other("disk full");
        assert_eq!(Chain(&inner).to_string(), "disk full");
        assert_eq!(
            Chain(&Outer { source: inner }).to_string(),
            "cannot write: disk full"
        );
    }
}
