//! What every daemon needs: logging, a shutdown signal, a small HTTP server for health and metrics, the metrics that
//! every process has, the pages that tell what process it is, and memory given back.

pub mod flags;
pub mod http;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod ready;
pub mod shutdown;
pub mod tls;
pub mod zpages;
