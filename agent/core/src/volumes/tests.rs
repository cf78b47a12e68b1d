//! Table tests of the planning.
