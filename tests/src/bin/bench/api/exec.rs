//! `exec true`: from the request to the exit code.

use gantry_tests::cluster::{NodeApi, Session, secs};

use super::{Bench, NODE};
use crate::figures::Figures;

/// The channel that tells how the command ended.
const STATUS: u8 = 3;

impl Bench {
    pub(super) fn exec(&self, figures: &mut Figures) {
        let runs = self.extent.of(50, 1);
        let spec = format!(
            "{{nodeName: {NODE}, containers: [{{name: c, image: 'busybox:1.36', command: [sleep, '100000']}}]}}"
        );
        self.test.pod("runs", &spec);
        self.test.wait_ready("runs");
        let api = NodeApi::control_plane(&self.test, &self.token());
        let path = format!(
            "/api/v1/namespaces/{}/pods/runs/exec?command=true&stdout=true&stderr=true",
            self.test.namespace()
        );
        let mut straight = self.repeat(runs, || {
            // As kubectl does.
            let session = Session::begin_with(&api, &path, "v5.channel.k8s.io");
            let status = session.and_then(|mut session| session.rest(STATUS, secs(30)));
            let status = status.expect("exec answers");
            let status = String::from_utf8_lossy(&status);
            assert!(status.contains("Success"), "exec true: {status}");
        });
        straight.add_times(figures, "exec true through the API server", "1 x");
        figures.add("exec true: agent CPU", straight.cpu_millis(), "ms", "");
        let mut kubectl = self.repeat(runs, || {
            self.test.kubectl(&["exec", "runs", "--", "true"]);
        });
        kubectl.add_times(figures, "kubectl exec true", "1 x");
        self.test
            .delete::<k8s_openapi::api::core::v1::Pod>("runs", Some(0));
    }

    /// The token of somebody who may do everything in the namespace.
    fn token(&self) -> String {
        let account = format!("--serviceaccount={}:bench", self.test.namespace());
        self.test.kubectl(&["create", "serviceaccount", "bench"]);
        self.test
            .kubectl(&["create", "rolebinding", "bench", "--clusterrole=admin", &account]);
        self.test.kubectl(&["create", "token", "bench"]).trim().to_owned()
    }
}
