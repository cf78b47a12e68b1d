//! Errors for the log: the whole chain of causes in one line, where the error is handled.

use std::{error::Error, fmt};

/// Displays an error, then its causes, separated by `: `. A cause that the text before it ends with already is left
/// out.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut error = self.0;
        loop {
            if let Some(kube::Error::Api(answer)) = error.downcast_ref() {
                // kube would show all fields of the answer; its sentence and code are enough.
                return write!(f, "the API server says {}: {}", answer.code, answer.message);
            }
            let text = error.to_string();
            f.write_str(&text)?;
            match error.source() {
                Some(cause) if text.ends_with(&cause.to_string()) => return Ok(()),
                Some(cause) => error = cause,
                None => return Ok(()),
            }
            f.write_str(": ")?;
        }
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
