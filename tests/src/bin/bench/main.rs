//! Measures a running cluster; `hack/bench` starts one for each side and prints them side by side.
//!
//! ```text
//! bench pods FILE              measure, and write the figures to FILE
//! bench services FILE COUNT N  the same, at that many services with N endpoints each
//! bench policies FILE          the same, of network policies
//! bench api FILE               the same of the node's own API
//! bench table FILE FILE        gantry's figures and the reference's as one table
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

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["pods", file] => pods::measure().write(file),
        ["services", file, count, endpoints] => {
            let number = |text: &str| text.parse().expect("numbers of services and endpoints");
            services::measure(number(count), number(endpoints)).write(file)
        }
        ["policies", file] => policies::measure().write(file),
        ["api", file] => api::measure().write(file),
        ["table", ours, reference] => print!(
            "{}",
            figures::table(&Figures::read(ours), &Figures::read(reference))
        ),
        _ => {
            eprintln!(
                "usage: bench pods|policies|api FILE, bench services FILE COUNT N, or bench table OURS REFERENCE"
            );
            std::process::exit(2);
        }
    }
}
