//! What a handler gives back: a body that may go on for hours, or a refusal in the reference's words.

use std::io;

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    body::Frame,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use serde::Serialize;

/// The body of an answer: whole or streamed.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What a handler gives back when all went well.
pub(crate) type Answer = Response<Body>;

const TEXT: &str = "text/plain; charset=utf-8";

/// A request that gets no answer but a status and a text, which users of kubectl read as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {text}")]
pub(crate) struct Refusal {
    status: StatusCode,
    text: String,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    /// This status, and exactly this text as body.
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            header: None,
        }
    }

    /// As Go's `http.Error`: a line break at the end, and the browser is told not to guess the type.
    pub(crate) fn line(status: StatusCode, text: &str) -> Self {
        Self {
            header: Some((X_CONTENT_TYPE_OPTIONS, "nosniff")),
            ..Self::new(status, format!("{text}\n"))
        }
    }

    /// 400.
    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 404.
    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 500.
    pub(crate) fn internal(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// With one more header.
    pub(crate) fn with(self, name: HeaderName, value: &'static str) -> Self {
        Self {
            header: Some((name, value)),
            ..self
        }
    }

    /// The status.
    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The text.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// On the wire.
    pub(crate) fn into_answer(self) -> Answer {
        let mut answer = with_type(TEXT, self.text);
        *answer.status_mut() = self.status;
        if let Some((name, value)) = self.header {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        answer
    }
}

/// A whole body.
pub(crate) fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// An answer that chassis made.
pub(crate) fn whole(answer: gantry_chassis::http::Answer) -> Answer {
    answer.map(|body| body.map_err(|never| match never {}).boxed_unsync())
}

/// 200 with a content type.
pub(crate) fn with_type(content_type: &'static str, content: impl Into<Bytes>) -> Answer {
    typed(content_type, full(content))
}

/// 200 with a content type, and a body whose parts are made when the one before is on its way.
pub(crate) fn in_parts(
    content_type: &'static str,
    parts: impl Iterator<Item = Vec<u8>> + Send + 'static,
) -> Answer {
    let frames = parts.map(|part| Ok(Frame::data(Bytes::from(part))));
    typed(content_type, StreamBody::new(stream::iter(frames)).boxed_unsync())
}

fn typed(content_type: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// 200 with plain text.
pub(crate) fn text(content: impl Into<Bytes>) -> Answer {
    with_type(TEXT, content)
}

/// 200 with JSON.
///
/// # Errors
/// 500 when the value cannot be written, which no value of ours is.
pub(crate) fn json(value: &impl Serialize) -> Result<Answer, Refusal> {
    let content = serde_json::to_vec(value).map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(with_type("application/json", content))
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// The body as text.
    pub(crate) async fn content(answer: Answer) -> String {
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_is_its_text_and_nothing_else() {
        let answer = Refusal::not_found("pod \"x\" does not exist").into_answer();
        assert_eq!(answer.status().as_u16(), 404);
        assert_eq!(answer.headers()[CONTENT_TYPE], TEXT);
        assert_eq!(testing::content(answer).await, "pod \"x\" does not exist");
        let line = Refusal::line(StatusCode::METHOD_NOT_ALLOWED, "no").into_answer();
        assert_eq!(line.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(testing::content(line).await, "no\n");
    }
}
