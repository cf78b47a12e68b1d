//! What every daemon needs: logging, a shutdown signal, a small HTTP server for health and metrics, and the metrics
//! that every process has.

pub mod http;
pub mod logging;
pub mod metrics;
pub mod shutdown;
pub mod tls;
