//! What every daemon needs: removing files, logging, a shutdown signal, a small HTTP server for health and metrics, the metrics that
//! every process has, and the pages that tell what process it is.

pub mod files;
pub mod flags;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod ready;
pub mod shutdown;
pub mod tls;
pub mod zpages;
