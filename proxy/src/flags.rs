//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// A kube-proxy that programs nftables: it takes the reference's configuration file and flags.
#[derive(Clone, Debug, Parser)]
#[command(name = "gantry-proxy", disable_version_flag = true, args_override_self = true)]
pub struct Flags {
    /// Configuration file (KubeProxyConfiguration, kubeproxy.config.k8s.io/v1alpha1).
    #[arg(long, value_name = "FILE", required_unless_present_any = ["cleanup", "version"])]
    pub config: Option<PathBuf>,
    /// This node's name, if it is not the host's.
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// Write the node's CNI configuration, 10-gantry.conflist, to this directory.
    #[arg(long, value_name = "DIR")]
    pub cni_conf_dir: Option<PathBuf>,
    /// Remove what the proxy made in the kernel, and exit.
    #[arg(long)]
    pub cleanup: bool,
    /// Print the version and exit.
    #[arg(long)]
    pub version: bool,
    /// Log verbosity, 0 to 10; overrides the file's.
    #[arg(short = 'v', long = "v", value_name = "LEVEL")]
    pub verbosity: Option<u8>,
}
