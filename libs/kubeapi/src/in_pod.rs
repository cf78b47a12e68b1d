//! The way in for a pod that Services do not work for yet: the API server's address and authority from the kubeconfig of somebody else
//! (the node's kubelet), the identity from the pod's own service account.
//!
//! Nothing of the other's credentials is kept. The token is read again as it is renewed.

use kube::config::{
    AuthInfo, Cluster, Config, Context, KubeConfigOptions, Kubeconfig, KubeconfigError, NamedAuthInfo,
    NamedContext,
};

/// What every pod is given (see `automountServiceAccountToken`).
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const AUTHORITY: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
/// What the only user and context are called.
const POD: &str = "pod";

/// The configuration of a client that goes where `other` leads, as this pod.
pub(crate) async fn config(other: Kubeconfig) -> Result<Config, KubeconfigError> {
    let own = as_pod(other);
    Config::from_custom_kubeconfig(own, &KubeConfigOptions::default()).await
}

/// The cluster of the current context, and this pod as its user. What is missing in `other` is missing in the answer, too.
fn as_pod(other: Kubeconfig) -> Kubeconfig {
    let current = other.current_context.unwrap_or_default();
    let contexts = other.contexts.into_iter();
    let cluster = contexts
        .filter(|context| context.name == current)
        .find_map(|context| context.context)
        .map(|context| context.cluster)
        .unwrap_or_default();
    let mut clusters = other.clusters;
    clusters.retain(|named| named.name == cluster);
    for found in clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        use_own_authority(found);
    }
    let user = AuthInfo {
        token_file: Some(TOKEN.to_owned()),
        ..AuthInfo::default()
    };
    Kubeconfig {
        clusters,
        auth_infos: vec![NamedAuthInfo {
            name: POD.to_owned(),
            auth_info: Some(user),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: POD.to_owned(),
            context: Some(Context {
                cluster,
                user: Some(POD.to_owned()),
                ..Context::default()
            }),
            ..NamedContext::default()
        }],
        current_context: Some(POD.to_owned()),
        ..Kubeconfig::default()
    }
}

/// A file that the other kubeconfig names is the host's and not in this pod: the pod's own copy of the authority takes its place.
fn use_own_authority(cluster: &mut Cluster) {
    if cluster.certificate_authority_data.is_none() && cluster.certificate_authority.is_some() {
        cluster.certificate_authority = Some(AUTHORITY.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBELETS: &str = r#"
apiVersion: v1
kind: Config
clusters:
- name: other
  cluster: {server: "https://other:6443"}
- name: default
  cluster: {server: "https://10.0.0.1:6443", tls-server-name: api, certificate-authority-data: AAAA}
users:
- name: kubelet
  user: {client-certificate: /var/lib/kubelet/pki/c.pem, client-key: /var/lib/kubelet/pki/c.pem}
contexts:
- name: kubelet@default
  context: {cluster: default, user: kubelet, namespace: secret}
current-context: kubelet@default
"#;

    #[test]
    fn server_and_authority_are_the_others_and_the_identity_is_not() {
        let own = as_pod(Kubeconfig::from_yaml(KUBELETS).expect("a kubeconfig"));
        assert_eq!(own.clusters.len(), 1);
        let cluster = own.clusters[0].cluster.clone().expect("a cluster");
        assert_eq!(cluster.server.as_deref(), Some("https://10.0.0.1:6443"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("AAAA"));
        assert_eq!(cluster.tls_server_name.as_deref(), Some("api"));
        let user = own.auth_infos[0].auth_info.clone().expect("a user");
        assert_eq!(user.token_file.as_deref(), Some(TOKEN));
        assert!(user.client_certificate.is_none() && user.client_key.is_none());
        assert_eq!(own.current_context.as_deref(), Some(POD));
    }

    #[test]
    fn an_authority_in_a_file_is_the_pods_own() {
        let text = KUBELETS.replace(
            "certificate-authority-data: AAAA",
            "certificate-authority: /etc/kubernetes/pki/ca.crt",
        );
        let own = as_pod(Kubeconfig::from_yaml(&text).expect("a kubeconfig"));
        let cluster = own.clusters[0].cluster.clone().expect("a cluster");
        assert_eq!(cluster.certificate_authority.as_deref(), Some(AUTHORITY));
    }

    #[test]
    fn a_kubeconfig_without_a_context_leads_nowhere() {
        let own = as_pod(Kubeconfig::default());
        assert!(own.clusters.is_empty());
    }
}
