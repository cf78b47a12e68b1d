//! `/debug/flags/v`: the verbosity of the log, changed while the agent runs. `/debug/pprof/`: what of Go's profiles
//! means something here.
//!
//! `cmdline` is served, and `symbol` as for a program that has no symbols to look up by address. Profiles of
//! goroutines, of Go's heap and its scheduler's trace do not exist; they are answered as a profile that Go does not
//! know. To profile the agent use perf(1).

use gantry_chassis::logging;
use http_body_util::{BodyExt as _, Limited};
use hyper::{Method, StatusCode, body::Incoming};

use super::{Answer, Refusal, Request, answer};

/// A number needs no more.
const BODY_BYTES: usize = 1024;

/// `/debug/flags/v`.
pub(super) async fn verbosity(request: Request) -> Result<Answer, Refusal> {
    if request.method() != Method::PUT {
        return Err(Refusal::line(
            StatusCode::NOT_ACCEPTABLE,
            "unsupported http method",
        ));
    }
    let text = body(request.into_body()).await?;
    let refused = |why: &str| Refusal::line(StatusCode::BAD_REQUEST, why);
    let level: u32 = text
        .parse()
        .map_err(|_| refused(&format!("strconv.ParseUint: parsing {text:?}: invalid syntax")))?;
    logging::set_verbosity(u8::try_from(level).unwrap_or(u8::MAX)).map_err(|why| refused(&why))?;
    tracing::info!(level, "log verbosity");
    Ok(answer::text(format!(
        "successfully set klog.logging.verbosity to {text}\n"
    )))
}

async fn body(body: Incoming) -> Result<String, Refusal> {
    let unreadable = |why: &str| {
        Refusal::line(
            StatusCode::BAD_REQUEST,
            &format!("error reading request body: {why}"),
        )
    };
    let whole = Limited::new(body, BODY_BYTES).collect().await;
    let whole = whole.map_err(|error| unreadable(&error.to_string()))?.to_bytes();
    String::from_utf8(whole.to_vec()).map_err(|error| unreadable(&error.to_string()))
}

/// `/debug/pprof/{name}`.
pub(super) fn profile(name: &str) -> Result<Answer, Refusal> {
    match name {
        "cmdline" => {
            let arguments: Vec<_> = std::env::args_os()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect();
            Ok(answer::text(arguments.join("\0")))
        }
        "symbol" => Ok(answer::text("num_symbols: 0\n")),
        _ => Err(Refusal::line(StatusCode::NOT_FOUND, "Unknown profile")),
    }
}
