//! `$(VAR)` references: `$$` is a dollar sign, a reference to something unknown stays as it is.

/// `text` with its references replaced.
pub fn expand<'v>(text: &str, lookup: impl Fn(&str) -> Option<&'v [u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Reference { name, raw } => out.extend_from_slice(lookup(name).unwrap_or(raw.as_bytes())),
        }
    }
    out
}

/// [`expand`] for what must be text (commands, arguments, paths); bytes that are none become U+FFFD.
pub fn expand_text<'v>(text: &str, lookup: impl Fn(&str) -> Option<&'v [u8]>) -> String {
    String::from_utf8_lossy(&expand(text, lookup)).into_owned()
}

/// [`expand`] where every reference must be known (`subPathExpr`).
///
/// # Errors
/// The names of the unknown ones.
pub fn expand_strict<'v>(
    text: &str,
    lookup: impl Fn(&str) -> Option<&'v [u8]>,
) -> Result<String, Vec<String>> {
    let unknown: Vec<String> = pieces(text)
        .filter_map(|piece| match piece {
            Piece::Reference { name, .. } if lookup(name).is_none() => Some(name.to_owned()),
            Piece::Reference { .. } | Piece::Text(_) => None,
        })
        .collect();
    if unknown.is_empty() {
        Ok(expand_text(text, lookup))
    } else {
        Err(unknown)
    }
}

enum Piece<'t> {
    Text(&'t str),
    /// `$(name)`.
    Reference {
        name: &'t str,
        raw: &'t str,
    },
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, after) = next_piece(rest)?;
        rest = after;
        Some(piece)
    })
}

fn next_piece(text: &str) -> Option<(Piece<'_>, &str)> {
    let dollar = text.find('$').unwrap_or(text.len());
    if dollar > 0 {
        return Some((Piece::Text(&text[..dollar]), &text[dollar..]));
    }
    let after = text.strip_prefix('$')?;
    if let Some(after) = after.strip_prefix('$') {
        return Some((Piece::Text("$"), after));
    }
    let closing = after.strip_prefix('(').and_then(|inner| inner.find(')'));
    match closing {
        Some(end) => {
            let raw = &text[..end + 3];
            Some((
                Piece::Reference {
                    name: &text[2..end + 2],
                    raw,
                },
                &text[end + 3..],
            ))
        }
        // A lone dollar sign, or a reference without an end.
        None => Some((Piece::Text("$"), after)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<&'static [u8]> {
        match name {
            "A" => Some(b"1"),
            "B" => Some(b"$(A)"),
            "" => Some(b"empty"),
            _ => None,
        }
    }

    /// The cases of the reference's own table, in short.
    #[test]
    fn references() {
        for (text, wanted) in [
            ("$(A)", "1"),
            ("___$(A)___", "___1___"),
            ("$(B)", "$(A)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$$$$(A)", "$$(A)"),
            ("$(C)", "$(C)"),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("$", "$"),
            ("$$", "$"),
            ("$((A)", "$((A)"),
            ("$()", "empty"),
            ("\n$(A)é$", "\n1é$"),
            ("foo$(A)bar$(A)", "foo1bar1"),
            ("$?$(A)", "$?1"),
        ] {
            assert_eq!(expand_text(text, lookup), wanted, "{text}");
        }
    }

    #[test]
    fn strict_names_what_is_unknown() {
        assert_eq!(expand_strict("$(A)/$$(X)", lookup), Ok("1/$(X)".to_owned()));
        assert_eq!(
            expand_strict("$(A)/$(X)/$(Y)", lookup),
            Err(vec!["X".to_owned(), "Y".to_owned()])
        );
    }

    proptest! {
        #[test]
        fn text_without_dollar_stays(text in "[^$]*") {
            prop_assert_eq!(expand_text(&text, lookup), text);
        }

        #[test]
        fn any_text_expands(text in "[$()AB é]{0,30}") {
            let _ = expand(&text, lookup);
        }
    }
}
