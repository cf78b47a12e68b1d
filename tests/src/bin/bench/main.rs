//! Measures a running cluster; `hack/bench` starts one for each side and prints them side by side.
//!
//! ```text
//! bench pods FILE              measure, and write the figures to FILE
//! bench services FILE COUNT N  the same, at that many services with N endpoints each
//! bench policies FILE          the same, of network policies
//! bench api FILE               the same of the node's own API
//! bench table FILE FILE        gantry's figures and the reference's as one table
//! bench smoke                  all of that in a minute, to see that it still runs; any cluster will do
//! ```
//!
//! All times are taken here, on the client's side of the API server: from sending a request to the watch event that
//! tells of its result, or to the first answer of a server.

mod api;
mod figures;
mod pods;
mod policies;
mod process;
mod services;

use figures::Figures;
use gantry_tests::cluster::Cluster;

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What figures need.
    Full,
    /// Enough to see that everything still runs. The cluster may be anybody's and keeps what is in it.
    Smoke,
}

impl Extent {
    pub(crate) fn of<T>(self, full: T, smoke: T) -> T {
        match self {
            Self::Full => full,
            Self::Smoke => smoke,
        }
    }
}

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["pods", file] => pods::measure(Extent::Full).write(file),
        ["services", file, count, endpoints] => {
            let number = |text: &str| text.parse().expect("numbers of services and endpoints");
            services::measure(Extent::Full, number(count), number(endpoints)).write(file)
        }
        ["policies", file] => policies::measure(Extent::Full).write(file),
        ["api", file] => api::measure(Extent::Full).write(file),
        ["smoke"] => smoke(),
        ["table", ours, reference] => print!(
            "{}",
            figures::table(&Figures::read(ours), &Figures::read(reference))
        ),
        _ => {
            eprintln!(
                "usage: bench pods|policies|api FILE, bench services FILE COUNT N, bench table OURS REFERENCE, or bench smoke"
            );
            std::process::exit(2);
        }
    }
}

/// The figures mean nothing, so they are not kept.
fn smoke() {
    let cluster = Cluster::enter();
    pods::measure(Extent::Smoke);
    api::measure(Extent::Smoke);
    services::measure(Extent::Smoke, 20, 2);
    // The reference enforces none.
    if !cluster.is_reference("proxy") {
        policies::measure(Extent::Smoke);
    }
}
