//! The field table: every field of KubeletConfiguration v1beta1, once.
//!
//! A row says where the value lives, which kubelet flag mirrors it, what values are allowed, the default, whether a
//! zero means "default" (a plain field of the API) or is a value (an optional field), and whether the agent acts on
//! it yet. Decoding, flags, defaults, range checks and the "not honoured" notice all come from here.
//! Source: `staging/src/k8s.io/kubelet/config/v1beta1`, its defaults, and `cmd/kubelet/app/options`.

use super::kind::Kind::{self, *};

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Field {
    /// Dotted path in the document, e.g. `authentication.webhook.cacheTTL`.
    pub(crate) path: &'static str,
    /// The mirroring flag without dashes; empty: none.
    pub(crate) flag: &'static str,
    /// Type and allowed values.
    pub(crate) kind: Kind,
    /// Default in the flag's notation; `None`: the field stays unset.
    pub(crate) default: Option<&'static str>,
    /// `""`, `0`, `0s` and `false` mean the default.
    pub(crate) zero_is_default: bool,
    /// The agent acts on it.
    pub(crate) honoured: bool,
}

impl Field {
    /// Not acted on yet: named in the log when it is set to something else than the default.
    const fn later(self) -> Self {
        Self {
            honoured: false,
            ..self
        }
    }

    /// No default.
    const fn unset(self) -> Self {
        Self {
            default: None,
            ..self
        }
    }
}

/// A plain field: zero is the default.
const fn plain(path: &'static str, flag: &'static str, kind: Kind, default: &'static str) -> Field {
    Field {
        path,
        flag,
        kind,
        default: Some(default),
        zero_is_default: true,
        honoured: true,
    }
}

/// An optional field: only its absence is the default.
const fn opt(path: &'static str, flag: &'static str, kind: Kind, default: &'static str) -> Field {
    Field {
        path,
        flag,
        kind,
        default: Some(default),
        zero_is_default: false,
        honoured: true,
    }
}

const I32: i64 = i32::MAX as i64;
/// A count that may be zero.
const COUNT: Kind = Int(0, I32);
/// A count that may be negative.
const SIGNED: Kind = Int(-I32 - 1, I32);
const PORT: Kind = Int(0, 65535);

/// All fields, grouped as in the API's documentation.
#[rustfmt::skip]
pub(crate) const FIELDS: &[Field] = &[
    // the agent's API and who may call it
    opt("enableServer", "enable-server", Bool, "true"),
    plain("address", "address", Ip, "0.0.0.0"),
    plain("port", "port", Int(1, 65535), "10250"),
    plain("readOnlyPort", "read-only-port", PORT, "0"),
    plain("tlsCertFile", "tls-cert-file", Str, ""),
    plain("tlsPrivateKeyFile", "tls-private-key-file", Str, ""),
    plain("tlsCipherSuites", "tls-cipher-suites", StrList, ""),
    plain("tlsCurvePreferences", "", IntList, ""),
    plain("tlsMinVersion", "tls-min-version", OneOf(&["", "VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13"]), ""),
    plain("rotateCertificates", "rotate-certificates", Bool, "false"),
    plain("serverTLSBootstrap", "rotate-server-certificates", Bool, "false"),
    plain("authentication.x509.clientCAFile", "client-ca-file", Str, ""),
    opt("authentication.webhook.enabled", "authentication-token-webhook", Bool, "true"),
    plain("authentication.webhook.cacheTTL", "authentication-token-webhook-cache-ttl", Duration, "2m"),
    opt("authentication.anonymous.enabled", "anonymous-auth", Bool, "false"),
    plain("authorization.mode", "authorization-mode", OneOf(&["Webhook", "AlwaysAllow"]), "Webhook"),
    plain("authorization.webhook.cacheAuthorizedTTL", "authorization-webhook-cache-authorized-ttl", Duration, "5m"),
    plain("authorization.webhook.cacheUnauthorizedTTL", "authorization-webhook-cache-unauthorized-ttl", Duration, "30s"),
    plain("streamingConnectionIdleTimeout", "streaming-connection-idle-timeout", Duration, "4h"),
    opt("enableDebuggingHandlers", "enable-debugging-handlers", Bool, "true"),
    plain("enableContentionProfiling", "contention-profiling", Bool, "false").later(),
    opt("enableSystemLogHandler", "", Bool, "true"),
    opt("enableSystemLogQuery", "", Bool, "false"),
    opt("enableProfilingHandler", "", Bool, "true"),
    opt("enableDebugFlagsHandler", "", Bool, "true"),
    opt("healthzPort", "healthz-port", PORT, "10248"),
    plain("healthzBindAddress", "healthz-bind-address", Ip, "127.0.0.1"),

    // where pods come from
    plain("staticPodPath", "pod-manifest-path", Str, "").later(),
    plain("syncFrequency", "sync-frequency", Duration, "1m"),
    plain("fileCheckFrequency", "file-check-frequency", Duration, "20s").later(),
    plain("httpCheckFrequency", "http-check-frequency", Duration, "20s").later(),
    plain("staticPodURL", "manifest-url", Str, "").later(),
    plain("staticPodURLHeader", "manifest-url-header", Opaque('{'), "").later(),
    plain("runOnce", "runonce", Bool, "false").later(),

    // talking to the API server
    plain("contentType", "kube-api-content-type", Str, "application/vnd.kubernetes.protobuf").later(),
    opt("kubeAPIQPS", "kube-api-qps", COUNT, "50").later(),
    plain("kubeAPIBurst", "kube-api-burst", COUNT, "100").later(),
    opt("eventRecordQPS", "event-qps", COUNT, "50"),
    plain("eventBurst", "event-burst", COUNT, "100"),

    // the node object
    opt("registerNode", "register-node", Bool, "true"),
    plain("registerWithTaints", "register-with-taints", Taints, ""),
    plain("providerID", "provider-id", Str, ""),
    plain("nodeStatusUpdateFrequency", "node-status-update-frequency", Duration, "10s"),
    plain("nodeStatusReportFrequency", "", Duration, "5m"),
    plain("nodeLeaseDurationSeconds", "", Int(1, I32), "40"),
    opt("nodeStatusMaxImages", "node-status-max-images", Int(-1, I32), "50"),
    plain("maxPods", "max-pods", COUNT, "110"),
    plain("podsPerCore", "pods-per-core", COUNT, "0"),
    opt("enableControllerAttachDetach", "enable-controller-attach-detach", Bool, "true"),
    opt("localStorageCapacityIsolation", "local-storage-capacity-isolation", Bool, "true"),
    plain("podCIDR", "pod-cidr", Str, "").later(),

    // the runtime and images
    plain("containerRuntimeEndpoint", "container-runtime-endpoint", Str, "unix:///run/containerd/containerd.sock"),
    plain("imageServiceEndpoint", "image-service-endpoint", Str, "").later(),
    plain("runtimeRequestTimeout", "runtime-request-timeout", Duration, "2m"),
    opt("registryPullQPS", "registry-qps", COUNT, "5"),
    plain("registryBurst", "registry-burst", COUNT, "10"),
    opt("serializeImagePulls", "serialize-image-pulls", Bool, "true"),
    opt("maxParallelImagePulls", "", Int(1, I32), "").unset(),
    plain("imagePullCredentialsVerificationPolicy", "", OneOf(&["NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages", "AlwaysVerify"]), "NeverVerifyPreloadedImages").later(),
    plain("preloadedImagesVerificationAllowlist", "", StrList, "").later(),
    plain("imageMinimumGCAge", "minimum-image-ttl-duration", Duration, "2m").later(),
    plain("imageMaximumGCAge", "", Duration, "0s").later(),
    opt("imageGCHighThresholdPercent", "image-gc-high-threshold", Int(0, 100), "85").later(),
    opt("imageGCLowThresholdPercent", "image-gc-low-threshold", Int(0, 100), "80").later(),

    // pods
    plain("clusterDomain", "cluster-domain", Str, ""),
    plain("clusterDNS", "cluster-dns", StrList, ""),
    opt("resolvConf", "resolv-conf", Str, "/etc/resolv.conf"),
    plain("podLogsDir", "", Str, "/var/log/pods"),
    plain("hairpinMode", "hairpin-mode", OneOf(&["promiscuous-bridge", "hairpin-veth", "none"]), "promiscuous-bridge"),
    plain("configMapAndSecretChangeDetectionStrategy", "", OneOf(&["Watch", "Cache", "Get"]), "Watch").later(),
    plain("containerLogMaxSize", "container-log-max-size", Quantity, "10Mi"),
    opt("containerLogMaxFiles", "container-log-max-files", Int(2, I32), "5"),
    opt("containerLogMaxWorkers", "", Int(1, I32), "1"),
    opt("containerLogMonitorInterval", "", Duration, "10s"),
    plain("volumeStatsAggPeriod", "volume-stats-agg-period", Duration, "1m"),
    plain("volumePluginDir", "volume-plugin-dir", Str, "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/").later(),
    plain("allowedUnsafeSysctls", "allowed-unsafe-sysctls", StrList, "").later(),
    opt("seccompDefault", "seccomp-default", Bool, "false"),
    opt("crashLoopBackOff.maxContainerRestartPeriod", "", Duration, "5m"),
    opt("userNamespaces.idsPerPod", "", Int(65536, 4_294_967_295), "65536").later(),

    // cgroups and resources
    plain("cgroupDriver", "cgroup-driver", OneOf(&["cgroupfs", "systemd"]), "cgroupfs"),
    plain("cgroupRoot", "cgroup-root", Str, ""),
    opt("cgroupsPerQOS", "cgroups-per-qos", Bool, "true"),
    plain("systemCgroups", "system-cgroups", Str, "").later(),
    plain("kubeletCgroups", "kubelet-cgroups", Str, "").later(),
    opt("failCgroupV1", "fail-cgroupv1", Bool, "true"),
    opt("singleProcessOOMKill", "", Bool, "").unset(),
    opt("oomScoreAdj", "oom-score-adj", Int(-1000, 1000), "-999"),
    plain("systemReserved", "system-reserved", QuantityMap('='), ""),
    plain("kubeReserved", "kube-reserved", QuantityMap('='), ""),
    plain("systemReservedCgroup", "system-reserved-cgroup", Str, "").later(),
    plain("kubeReservedCgroup", "kube-reserved-cgroup", Str, "").later(),
    opt("enforceNodeAllocatable", "enforce-node-allocatable", StrList, "pods").later(),
    plain("reservedSystemCPUs", "reserved-cpus", Str, "").later(),
    plain("qosReserved", "qos-reserved", StrMap('='), "").later(),
    opt("podPidsLimit", "pod-max-pids", Int(i64::MIN, i64::MAX), "-1"),
    opt("cpuCFSQuota", "cpu-cfs-quota", Bool, "true"),
    opt("cpuCFSQuotaPeriod", "cpu-cfs-quota-period", Duration, "100ms"),
    plain("maxOpenFiles", "max-open-files", Int(0, i64::MAX), "1000000"),
    opt("failSwapOn", "fail-swap-on", Bool, "true"),
    plain("memorySwap.swapBehavior", "", OneOf(&["", "NoSwap", "LimitedSwap"]), ""),
    opt("memoryThrottlingFactor", "", Float, "0.9").later(),
    plain("memoryReservationPolicy", "", OneOf(&["None", "TieredReservation"]), "None").later(),
    plain("cpuManagerPolicy", "cpu-manager-policy", OneOf(&["none", "static"]), "none").later(),
    plain("cpuManagerPolicyOptions", "cpu-manager-policy-options", StrMap('='), "").later(),
    plain("cpuManagerReconcilePeriod", "cpu-manager-reconcile-period", Duration, "10s").later(),
    plain("memoryManagerPolicy", "memory-manager-policy", OneOf(&["None", "Static"]), "None").later(),
    plain("reservedMemory", "reserved-memory", Opaque('['), "").later(),
    plain("topologyManagerPolicy", "topology-manager-policy", OneOf(&["none", "best-effort", "restricted", "single-numa-node"]), "none").later(),
    plain("topologyManagerScope", "topology-manager-scope", OneOf(&["container", "pod"]), "container").later(),
    plain("topologyManagerPolicyOptions", "topology-manager-policy-options", StrMap('='), "").later(),

    // eviction
    plain("evictionHard", "eviction-hard", StrMap('<'), ""),
    plain("evictionSoft", "eviction-soft", StrMap('<'), "").later(),
    plain("evictionSoftGracePeriod", "eviction-soft-grace-period", StrMap('='), "").later(),
    plain("evictionPressureTransitionPeriod", "eviction-pressure-transition-period", Duration, "5m"),
    plain("evictionMaxPodGracePeriod", "eviction-max-pod-grace-period", SIGNED, "0").later(),
    plain("evictionMinimumReclaim", "eviction-minimum-reclaim", StrMap('='), "").later(),
    opt("mergeDefaultEvictionSettings", "", Bool, "false"),
    plain("kernelMemcgNotification", "kernel-memcg-notification", Bool, "false").later(),

    // the machine
    plain("protectKernelDefaults", "protect-kernel-defaults", Bool, "false").later(),
    opt("makeIPTablesUtilChains", "make-iptables-util-chains", Bool, "true").later(),
    opt("iptablesMasqueradeBit", "", Int(0, 31), "14").later(),
    opt("iptablesDropBit", "", Int(0, 31), "15").later(),
    plain("shutdownGracePeriod", "", Duration, "0s").later(),
    plain("shutdownGracePeriodCriticalPods", "", Duration, "0s").later(),
    plain("shutdownGracePeriodByPodPriority", "", Opaque('['), "").later(),

    // gates, logs, traces
    plain("featureGates", "feature-gates", BoolMap, "").later(),
    plain("showHiddenMetricsForVersion", "", Str, "").later(),
    plain("logging.format", "logging-format", OneOf(&["text", "json"]), "text"),
    plain("logging.flushFrequency", "log-flush-frequency", DurationOrNanos, "5s"),
    plain("logging.verbosity", "v", COUNT, "0"),
    plain("logging.vmodule", "vmodule", Opaque('['), "").later(),
    plain("logging.options.text.splitStream", "log-text-split-stream", Bool, "false").later(),
    plain("logging.options.text.infoBufferSize", "log-text-info-buffer-size", Quantity, "0").later(),
    plain("logging.options.json.splitStream", "log-json-split-stream", Bool, "false").later(),
    plain("logging.options.json.infoBufferSize", "log-json-info-buffer-size", Quantity, "0").later(),
    opt("tracing.endpoint", "", Str, "").unset().later(),
    opt("tracing.samplingRatePerMillion", "", Int(0, 1_000_000), "").unset().later(),
];

/// The row of a path.
pub(crate) fn by_path(path: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.path == path)
}

/// The row mirrored by a flag.
pub(crate) fn by_flag(flag: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| !flag.is_empty() && field.flag == flag)
}

/// `path` is an object that holds fields, e.g. `authentication.webhook`.
pub(crate) fn is_group(path: &str) -> bool {
    FIELDS.iter().any(|field| {
        field
            .path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}
