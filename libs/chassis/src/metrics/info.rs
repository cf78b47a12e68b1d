//! What every daemon says of itself: its version, its feature gates, how many tasks it has.

use prometheus::Registry;
use tokio::runtime::Handle;

use super::{Level, Process, Registrar};

/// Who answers.
#[derive(Debug, Clone, Copy)]
pub struct Version {
    /// The Kubernetes version that the program stands in for: `v1.36.3`.
    pub kubernetes: &'static str,
    /// The program's own.
    pub own: &'static str,
}

/// Registers [`Process`], `go_goroutines` (the number of tasks, under the name that dashboards read) and
/// `kubernetes_build_info`. Must be called inside a tokio runtime for the tasks to be counted.
pub fn standard(registry: &Registry, version: Version) {
    let series = Registrar::new(registry);
    series.add(Process::new());
    if let Ok(runtime) = Handle::try_current() {
        let help = "Number of tasks that currently exist; they are this program's goroutines.";
        series
            .level(Level::Own)
            .reading("go_goroutines", help, &[], move || {
                #[expect(clippy::cast_precision_loss, reason = "a count of tasks")]
                let tasks = runtime.metrics().num_alive_tasks() as f64;
                vec![(vec![], tasks)]
            });
    }
    build_info(series, version);
}

fn build_info(series: Registrar<'_>, version: Version) {
    const LABELS: [&str; 10] = [
        "major",
        "minor",
        "git_version",
        "git_commit",
        "git_tree_state",
        "build_date",
        "go_version",
        "compiler",
        "platform",
        "gantry_version",
    ];
    let mut numbers = version.kubernetes.trim_start_matches('v').split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let platform = format!("{}/{arch}", std::env::consts::OS);
    let help = "A metric with a constant '1' value labeled by the Kubernetes version that this program stands in for, \
                its own version, its compiler, and the platform on which it is running.";
    series
        .level(Level::Beta)
        .counts("kubernetes_build_info", help, &LABELS)
        .with_label_values(&[
            major,
            minor,
            version.kubernetes,
            "",
            "",
            "",
            "",
            "rustc",
            platform.as_str(),
            version.own,
        ])
        .set(1);
}

/// Registers `kubernetes_feature_enabled`: each gate's name, its stage (`ALPHA`, `BETA`, `DEPRECATED`, empty for
/// stable) and whether it is on.
pub fn feature_gates<'a>(series: Registrar<'_>, gates: impl IntoIterator<Item = (&'a str, &'a str, bool)>) {
    let help = "This metric records the data about the stage and enablement of a k8s feature.";
    let all = series
        .level(Level::Beta)
        .counts("kubernetes_feature_enabled", help, &["name", "stage"]);
    for (name, stage, on) in gates {
        all.with_label_values(&[name, stage]).set(on.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn version_tasks_and_gates_are_shown() {
        let registry = Registry::new();
        let version = Version {
            kubernetes: "v1.36.3",
            own: "0.1.0",
        };
        standard(&registry, version);
        feature_gates(
            Registrar::new(&registry),
            [("NodeSwap", "", true), ("X", "ALPHA", false)],
        );
        let task = tokio::spawn(std::future::pending::<()>());
        let text = String::from_utf8(super::super::encode(&registry).expect("valid")).expect("text");
        assert!(text.contains("\ngo_goroutines 1\n"), "{text}");
        assert!(text.contains("git_version=\"v1.36.3\""), "{text}");
        assert!(text.contains("major=\"1\",minor=\"36\""), "{text}");
        assert!(text.contains("{name=\"NodeSwap\",stage=\"\"} 1"), "{text}");
        assert!(text.contains("{name=\"X\",stage=\"ALPHA\"} 0"), "{text}");
        task.abort();
    }
}
