//! The kubeconfig that the bootstrap writes, and whether one that is there still works.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use kube::config::{AuthInfo, Kubeconfig, NamedCluster};
use serde_json::json;

use super::{BootstrapError, store};
use crate::report::Chain;

/// Can this file be used to connect? Else why not, in words.
pub(super) fn check(path: &Path) -> Result<(), String> {
    if !path.exists() {
        return Err("does not exist".into());
    }
    let config = Kubeconfig::read_from(path).map_err(|error| Chain(&error).to_string())?;
    let user = current_user(&config).ok_or("has no user in its current context")?;
    let Some(pem) = certificate(user)? else {
        // Tokens and exec plugins are taken as they are.
        return Ok(());
    };
    let validity = store::validity(&pem).ok_or("its client certificate cannot be read")?;
    if validity.not_after <= Timestamp::now() {
        return Err(format!(
            "its client certificate expired at {}",
            validity.not_after
        ));
    }
    Ok(())
}

/// The API server's address in a kubeconfig, for the log.
pub(crate) fn server(path: &Path) -> Option<String> {
    let config = Kubeconfig::read_from(path).ok()?;
    current_cluster(&config)?.cluster.as_ref()?.server.clone()
}

fn current_user(config: &Kubeconfig) -> Option<&AuthInfo> {
    let context = config.current_context.as_deref()?;
    let context = config
        .contexts
        .iter()
        .find(|c| c.name == context)?
        .context
        .as_ref()?;
    let user = context.user.as_deref()?;
    config
        .auth_infos
        .iter()
        .find(|named| named.name == user)?
        .auth_info
        .as_ref()
}

/// The PEM data of the user's client certificate; `None` when the user has none.
fn certificate(user: &AuthInfo) -> Result<Option<Vec<u8>>, String> {
    match (&user.client_certificate_data, &user.client_certificate) {
        (Some(data), _) => STANDARD
            .decode(data)
            .map(Some)
            .map_err(|error| format!("client-certificate-data: {error}")),
        (None, Some(file)) => fs::read(file)
            .map(Some)
            .map_err(|error| format!("client certificate {file}: {error}")),
        (None, None) => Ok(None),
    }
}

/// Write the kubeconfig `target`: the cluster of the bootstrap kubeconfig `source`, and the certificate and key in
/// `pem` as user. Names as kubelet's.
pub(super) fn write(source: &Path, target: &Path, pem: &Path) -> Result<(), BootstrapError> {
    let bootstrap = Kubeconfig::read_from(source).map_err(|error| BootstrapError::Read {
        path: source.to_owned(),
        source: Box::new(error),
    })?;
    let text = content(&bootstrap, pem).map_err(|reason| BootstrapError::Encode {
        what: "the kubeconfig",
        reason,
    })?;
    let failed = |source| BootstrapError::Write {
        path: target.to_owned(),
        source,
    };
    if let Some(dir) = target.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    store::write_private(target, text.as_bytes()).map_err(failed)
}

fn content(bootstrap: &Kubeconfig, pem: &Path) -> Result<String, String> {
    let cluster = current_cluster(bootstrap).ok_or("the bootstrap kubeconfig has no cluster")?;
    let cluster = cluster
        .cluster
        .as_ref()
        .ok_or("the bootstrap kubeconfig's cluster is empty")?;
    let mut cluster = serde_json::to_value(cluster).map_err(|error| error.to_string())?;
    if let Some(fields) = cluster.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "contexts": [{
            "name": "default-context",
            "context": {"cluster": "default-cluster", "namespace": "default", "user": "default-auth"},
        }],
        "current-context": "default-context",
        "users": [{"name": "default-auth", "user": {"client-certificate": pem, "client-key": pem}}],
    });
    // Certificates stay on one line, as everybody else writes them.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(&config, options).map_err(|error| error.to_string())
}

fn current_cluster(config: &Kubeconfig) -> Option<&NamedCluster> {
    let context = config.current_context.as_deref();
    let context = config
        .contexts
        .iter()
        .find(|c| Some(c.name.as_str()) == context)?
        .context
        .as_ref()?;
    config
        .clusters
        .iter()
        .find(|cluster| cluster.name == context.cluster)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    const BOOTSTRAP: &str = "
apiVersion: v1
kind: Config
clusters:
- name: kubernetes
  cluster: {server: 'https://10.0.0.1:6443', certificate-authority-data: Q0E=}
contexts:
- name: tls-bootstrap-token-user@kubernetes
  context: {cluster: kubernetes, user: tls-bootstrap-token-user}
current-context: tls-bootstrap-token-user@kubernetes
users:
- name: tls-bootstrap-token-user
  user: {token: abcdef.0123456789abcdef}
";

    fn pair(days: i64) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_after = std::time::SystemTime::now().into();
        params.not_after += std::time::Duration::from_secs(86400) * u32::try_from(days.abs()).unwrap();
        if days < 0 {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        }
        params.self_signed(&key).unwrap().pem() + &key.serialize_pem()
    }

    #[test]
    fn writes_a_kubeconfig_that_it_accepts() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target, pem) = (
            dir.path().join("bootstrap.conf"),
            dir.path().join("etc/kubelet.conf"),
            dir.path().join("current.pem"),
        );
        fs::write(&source, BOOTSTRAP).unwrap();
        assert!(check(&target).unwrap_err().contains("does not exist"));
        fs::write(&pem, pair(1)).unwrap();
        write(&source, &target, &pem).unwrap();
        check(&target).unwrap();
        let text = fs::read_to_string(&target).unwrap();
        assert!(
            text.contains("https://10.0.0.1:6443") && text.contains("default-context"),
            "{text}"
        );
        assert!(text.contains("certificate-authority-data: Q0E="), "{text}");
        assert!(!text.contains("abcdef"), "the token must not be copied: {text}");
        fs::write(&pem, pair(-1)).unwrap();
        assert!(check(&target).unwrap_err().contains("expired"));
        fs::write(&pem, "rubbish").unwrap();
        assert!(check(&target).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn a_token_is_taken_as_it_is_and_rubbish_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet.conf");
        fs::write(&path, BOOTSTRAP).unwrap();
        check(&path).unwrap();
        fs::write(&path, "{").unwrap();
        check(&path).unwrap_err();
    }
}
