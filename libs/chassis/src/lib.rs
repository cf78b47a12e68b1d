//! What every daemon needs: logging, health, metrics, shutdown.
