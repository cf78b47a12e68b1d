//! Logs: a large one as fast as it goes, and one that is followed while it is written.

use std::process::Stdio;
use std::time::{Duration, Instant};

use gantry_tests::cluster::{Machine, Test, pods, secs};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Bench, NODE};
use crate::figures::Figures;

const MIB: f64 = 1024.0 * 1024.0;
const READS: usize = 2;
const DEADLINE: Duration = secs(180);

impl Bench {
    pub(super) fn logs(&self, figures: &mut Figures) {
        let pod = ended(&self.test, "large", "echo it begins");
        // The container has ended, so nobody rotates this file.
        let line = "2026-01-01T00:00:00.000000000Z stdout F 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789";
        let size_mib = self.extent.of(32, 1);
        Machine::named(NODE).sh(&format!(
            "yes '{line}' | head -c {size_mib}M >{}/0.log",
            folder(&self.test, &pod)
        ));
        self.whole(figures);
        self.through_kubectl(figures);
        self.test.delete::<Pod>("large", Some(0));
        self.followed(figures);
    }

    /// Straight from the node.
    fn whole(&self, figures: &mut Figures) {
        let path = format!("/containerLogs/{}/large/c", self.test.namespace());
        let mut bytes = 0;
        let measured = self.repeat(READS, || {
            let mut reading = self.api.open(&path);
            assert_eq!(reading.status, 200);
            bytes = 0;
            while let Some(part) = reading.next(DEADLINE).expect("the log comes") {
                bytes += part.len();
            }
        });
        let took: Duration = measured.times.iter().sum();
        self.rate(
            figures,
            "log of 32 MiB, straight from the node",
            (bytes, took, measured.cpu),
        );
    }

    fn through_kubectl(&self, figures: &mut Figures) {
        let mut bytes = 0;
        let measured = self.repeat(READS, || {
            let mut kubectl = self.test.kubectl_command(&["logs", "large"]);
            let mut child = kubectl.stdout(Stdio::piped()).spawn().expect("kubectl starts");
            let mut out = child.stdout.take().expect("a pipe");
            bytes = std::io::copy(&mut out, &mut std::io::sink()).expect("kubectl says something");
            assert!(child.wait().expect("kubectl ends").success());
        });
        let took: Duration = measured.times.iter().sum();
        let bytes = usize::try_from(bytes).unwrap_or(0);
        self.rate(figures, "kubectl logs of 32 MiB", (bytes, took, measured.cpu));
    }

    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    fn rate(&self, figures: &mut Figures, what: &str, (bytes, took, cpu): (usize, Duration, Duration)) {
        let all = (bytes * READS) as f64 / MIB;
        figures.add(what, all / took.as_secs_f64(), "MiB/s", "1 x");
        figures.add(
            &format!("{what}: agent CPU for a GiB"),
            cpu.as_secs_f64() / all * 1024.0,
            "s",
            "0.5 x",
        );
    }

    /// Lines as they are written, with rotation in between.
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousand lines")]
    fn followed(&self, figures: &mut Figures) {
        let written: u32 = self.extent.of(400_000, 1000);
        let script =
            format!("sleep 3; yes 0123456789012345678901234567890123456789 | head -n {written}; sleep 3");
        self.test.pod("writes", &once(&script));
        self.test.wait_ready("writes");
        let path = format!("/containerLogs/{}/writes/c?follow=true", self.test.namespace());
        let (mut lines, mut first, mut last) = (0, None, None);
        let measured = self.repeat(1, || {
            let mut reading = self.api.open(&path);
            while let Some(part) = reading.next(DEADLINE).expect("the log comes") {
                first.get_or_insert_with(Instant::now);
                last = Some(Instant::now());
                lines += bytecount(&part);
            }
        });
        let took = last
            .zip(first)
            .map_or(Duration::ZERO, |(last, first)| last - first);
        figures.add(
            "log followed: lines a second",
            lines as f64 / took.as_secs_f64(),
            "1/s",
            "1 x",
        );
        figures.add(
            "log followed: lines lost",
            f64::from(written) - lines as f64,
            "",
            "0",
        );
        figures.add(
            "log followed: agent CPU for a million lines",
            measured.cpu.as_secs_f64() / lines as f64 * 1e6,
            "s",
            "0.5 x",
        );
        self.test.delete::<Pod>("writes", Some(0));
    }
}

fn bytecount(part: &[u8]) -> usize {
    part.iter().filter(|byte| **byte == b'\n').count()
}

fn once(script: &str) -> String {
    format!(
        "{{nodeName: {NODE}, restartPolicy: Never, containers: [{{name: c, image: 'busybox:1.36', command: [sh, -c, '{script}']}}]}}"
    )
}

fn ended(test: &Test, name: &str, script: &str) -> Pod {
    test.pod(name, &once(script));
    test.wait_pod(name, "ended", secs(60), |pod| {
        pods::terminated(pod, "c").is_some()
    })
}

fn folder(test: &Test, pod: &Pod) -> String {
    let uid = pod.uid().unwrap_or_default();
    format!("/var/log/pods/{}_{}_{uid}/c", test.namespace(), pod.name_any())
}
