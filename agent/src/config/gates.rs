//! The feature gates that kubelet 1.36 knows, with their defaults (`pkg/features`, and those of client-go,
//! component-base and apiserver that it registers). An unknown name is refused, as is a change of a locked gate.

use std::collections::BTreeMap;

/// On by default.
const ON: &str = "
    APIResponseCompression APIServerIdentity AllowParsingUserUIDFromCertAuth AllowServiceExternalIPs
    AtomicFIFO AuthorizePodWebsocketUpgradeCreatePermission CPUManagerPolicyBetaOptions
    CRDObservedGenerationTracking CRDValidationRatcheting ClearingNominatedNodeNameAfterBinding
    ClientsAllowCARotation ClientsAllowTLSCacheGC ComponentFlagz ComponentStatusz ConstrainedImpersonation
    ContainerCheckpoint ContainerRestartRules ContextualLogging CustomCPUCFSQuotaPeriod
    CustomResourceFieldSelectors DRAConsumableCapacity DRADeviceBindingConditions DRADeviceTaints
    DRAExtendedResource DRAPartitionableDevices DRAPrioritizedList DRAResourceClaimDeviceStatus
    DRAResourceClaimGranularStatusAuthorization DRASchedulerFilterTimeout DeclarativeValidationBeta
    DeploymentReplicaSetTerminatingReplicas DetectCacheInconsistency DisableCPUQuotaWithExclusiveCPUs
    EnvFiles ExtendWebSocketsToKubelet GracefulNodeShutdown GracefulNodeShutdownBasedOnPodPriority
    HPAConfigurableTolerance HostnameOverride InOrderInformersBatchProcess
    InPlacePodLevelResourcesVerticalScaling InPlacePodVerticalScalingInitContainers InformerResourceVersion
    KubeletCrashLoopBackOffMax KubeletEnsureSecretPulledImages KubeletPodResourcesListUseActivePods
    KubeletSeparateDiskGC KubeletServiceAccountTokenForCredentialProviders ListFromCacheSnapshot
    LoggingBetaOptions MatchLabelKeysInPodTopologySpread MatchLabelKeysInPodTopologySpreadSelectorMerge
    MutablePodResourcesForSuspendedJobs MutableSchedulingDirectivesForSuspendedJobs MutatingAdmissionPolicy
    NodeDeclaredFeatures NominatedNodeNameForExpectation OpenAPIEnums OpportunisticBatching
    PLEGOnDemandRelist PodDeletionCost PodLevelResources PodReadyToStartContainersCondition
    PodTopologyLabelsAdmission PortForwardWebsockets PreventStaticPodAPIReferences
    RelaxedServiceNameValidation ReloadKubeletClientCAFile ReloadKubeletServerCertificateFile
    RemoteRequestHeaderUID ResourceHealthStatus ResourceHealthStatusMessage
    RestartAllContainersOnContainerExits RetryGenerateName RotateKubeletServerCertificate
    SchedulerAsyncPreemption SchedulerPopFromBackoffQ ServiceAccountNodeAudienceRestriction
    ServiceCIDRStatusFieldWiping SidecarContainers SizeBasedListCostEstimate
    StaleControllerConsistencyDaemonSet StaleControllerConsistencyJob StaleControllerConsistencyReplicaSet
    StaleControllerConsistencyStatefulSet StatefulSetSemanticRevisionComparison StorageNamespaceIndex
    StorageVersionHash StrictIPCIDRValidation StructuredAuthenticationConfigurationEgressSelector
    StructuredAuthenticationConfigurationJWKSMetrics TokenRequestServiceAccountUIDValidation
    TopologyManagerPolicyBetaOptions TranslateStreamCloseWebsocketRequests UnauthenticatedHTTP2DOSMitigation
    UnknownVersionInteroperabilityProxy UnlockWhileProcessingFIFO WatchCacheInitializationPostStartHook
    WatchList WatchListClient WindowsGracefulNodeShutdown
";

/// Off by default.
const OFF: &str = "
    APIServingWithRoutine AllowDNSOnlyNodeCSR AllowInsecureKubeletCertificateSigningRequests
    AllowUnsafeMalformedObjectDeletion CBORServingAndStorage CPUManagerPolicyAlphaOptions CRIListStreaming
    CSIVolumeHealth ChangeContainerStatusOnKubeletRestart ClientsAllowCBOR ClientsPreferCBOR
    CloudControllerManagerWatchBasedRoutesReconciliation CloudControllerManagerWebhook ClusterTrustBundle
    ClusterTrustBundleProjection ConcurrentWatchObjectDecode ControllerManagerReleaseLeaderElectionLockOnExit ContainerStopSignals CoordinatedLeaderElection
    CrossNamespaceVolumeDataSource DRADeviceTaintRules DRAListTypeAttributes DRANodeAllocatableResources
    DRAResourcePoolStatus DRAWorkloadResourceClaims DeclarativeValidationTakeover EventedPLEG GangScheduling
    GenericWorkload HPAScaleToZero ImageVolumeWithDigest InPlacePodVerticalScalingExclusiveCPUs
    InPlacePodVerticalScalingExclusiveMemory KMSv1 KubeletInUserNamespace KubeletRegistrationGetOnExistsOnly
    LocalStorageCapacityIsolationFSQuotaMonitoring LoggingAlphaOptions ManifestBasedAdmissionControlConfig
    MaxUnavailableStatefulSet MemoryQoS MutablePVNodeAffinity NativeHistograms
    PersistentVolumeClaimUnusedSinceTime PodAndContainerStatsFromCRI PodCertificateRequest
    PodLevelResourceManagers PodLogsQuerySplitStreams PodsAPI QOSReserved ReduceDefaultCrashLoopBackOffDecay
    RuntimeClassInImageCriApi SELinuxMount SchedulerAsyncAPICalls SeparateCacheWatchRPC ShardedListAndWatch
    StorageCapacityScoring StorageVersionAPI StorageVersionMigrator TaintTolerationComparisonOperators
    TopologyAwareWorkloadScheduling TopologyManagerPolicyAlphaOptions UserNamespacesHostNetworkSupport
    VolumeLimitScaling WindowsCPUAndMemoryAffinity WindowsHostNetwork WorkloadAwarePreemption
    WorkloadWithJob
";

/// On, and cannot be turned off.
const LOCKED_ON: &str = "
    APIServerTracing AggregatedDiscoveryRemoveBetaType AnonymousAuthConfigurableEndpoints
    AnyVolumeDataSource AuthorizeNodeWithSelectors AuthorizeWithSelectors BtreeWatchCache
    CPUManagerPolicyOptions CSIServiceAccountTokenSecrets ConsistentListFromCache DRAAdminAccess
    DeclarativeValidation DisableAllocatorDualWrite DisableNodeKubeProxyVersion DynamicResourceAllocation
    ExecProbeTimeout ExternalServiceAccountTokenSigner ImageMaximumGCAge ImageVolume InOrderInformers
    InPlacePodVerticalScaling JobBackoffLimitPerIndex JobManagedBy JobPodReplacementPolicy JobSuccessPolicy
    KubeletCgroupDriverFromCRI KubeletFineGrainedAuthz KubeletPSI KubeletPodResourcesDynamicResources
    KubeletPodResourcesGet KubeletTracing LogarithmicScaleDown MatchLabelKeysInPodAffinity
    MultiCIDRServiceAllocator MutableCSINodeAllocatableCount NFTablesProxyMode
    NodeInclusionPolicyInPodTopologySpread NodeLogQuery NodeSwap OrderedNamespaceDeletion
    PodLifecycleSleepAction PodLifecycleSleepActionAllowZero PodObservedGenerationTracking
    PodSchedulingReadiness PreferSameTrafficDistribution ProcMountType RecoverVolumeExpansionFailure
    RecursiveReadOnlyMounts RelaxedDNSSearchValidation RelaxedEnvironmentVariableValidation
    ResilientWatchCacheInitialization SELinuxChangePolicy SELinuxMountReadWriteOncePod
    SchedulerQueueingHints SeparateTaintEvictionController ServiceAccountTokenJTI
    ServiceAccountTokenNodeBinding ServiceAccountTokenNodeBindingValidation ServiceAccountTokenPodNodeInfo
    StreamingCollectionEncodingToJSON StreamingCollectionEncodingToProtobuf
    StructuredAuthenticationConfiguration SupplementalGroupsPolicy SystemdWatchdog
    TopologyManagerPolicyOptions UserNamespacesSupport VolumeAttributesClass WinDSR WinOverlay
";

/// Off, and cannot be turned on.
const LOCKED_OFF: &str = "
    AllowOverwriteTerminationGracePeriodSeconds GitRepoVolumeDriver
";

/// Stable although they can be changed.
const STABLE: &str = "
    AllowServiceExternalIPs CRDValidationRatcheting CustomCPUCFSQuotaPeriod CustomResourceFieldSelectors
    DRAPrioritizedList InformerResourceVersion MutatingAdmissionPolicy RetryGenerateName SidecarContainers
";

/// About to go.
const DEPRECATED: &str = "
    AggregatedDiscoveryRemoveBetaType AllowDNSOnlyNodeCSR AllowInsecureKubeletCertificateSigningRequests
    AllowOverwriteTerminationGracePeriodSeconds ChangeContainerStatusOnKubeletRestart
    DeclarativeValidationTakeover DisableCPUQuotaWithExclusiveCPUs DisableNodeKubeProxyVersion
    GitRepoVolumeDriver KMSv1 KubeletPodResourcesListUseActivePods KubeletRegistrationGetOnExistsOnly
    SeparateCacheWatchRPC ServiceCIDRStatusFieldWiping StorageNamespaceIndex WindowsHostNetwork
";

/// Beta although they are off by default; others that are off are alpha.
const BETA_OFF: &str = "
    AllBeta ClusterTrustBundle ClusterTrustBundleProjection ConcurrentWatchObjectDecode
    CoordinatedLeaderElection DRADeviceTaintRules LocalStorageCapacityIsolationFSQuotaMonitoring
    MaxUnavailableStatefulSet PodCertificateRequest SELinuxMount SchedulerAsyncAPICalls
    StorageVersionMigrator
";

/// Sessions whose protocol over WebSocket no runtime knows are translated here instead of in the API server.
pub(crate) const WEB_SOCKETS: &str = "ExtendWebSocketsToKubelet";

/// All gates: name, stage as `kubernetes_feature_enabled` shows it (empty for stable), whether it is on.
pub(crate) fn all(user: &BTreeMap<String, bool>) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    let lists = [ON, OFF, LOCKED_ON, LOCKED_OFF, "AllAlpha AllBeta"];
    let names = lists.into_iter().flat_map(str::split_ascii_whitespace);
    names.map(|name| (name, stage(name), enabled(user, name)))
}

fn stage(name: &str) -> &'static str {
    if has(DEPRECATED, name) {
        "DEPRECATED"
    } else if has(STABLE, name) || has(LOCKED_ON, name) {
        ""
    } else if has(ON, name) || has(BETA_OFF, name) {
        "BETA"
    } else {
        "ALPHA"
    }
}

fn has(list: &str, name: &str) -> bool {
    list.split_ascii_whitespace().any(|known| known == name)
}

/// Is the gate on, given what the user set?
pub(crate) fn enabled(user: &BTreeMap<String, bool>, name: &str) -> bool {
    user.get(name)
        .copied()
        .unwrap_or_else(|| has(ON, name) || has(LOCKED_ON, name))
}

/// Why the user may not set this gate to this value.
pub(crate) fn refuse(name: &str, value: bool) -> Option<String> {
    let locked = |to| {
        Some(format!(
            "cannot set feature gate {name} to {value}, feature is locked to {to}"
        ))
    };
    if has(ON, name) || has(OFF, name) || matches!(name, "AllAlpha" | "AllBeta") {
        None
    } else if has(LOCKED_ON, name) {
        if value { None } else { locked(true) }
    } else if has(LOCKED_OFF, name) {
        if value { locked(false) } else { None }
    } else {
        Some(format!("unrecognized feature gate: {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_have_stages() {
        let user = BTreeMap::from([("EventedPLEG".to_owned(), true)]);
        let all: Vec<_> = all(&user).collect();
        for gate in [
            ("EventedPLEG", "ALPHA", true),
            ("NodeSwap", "", true),
            ("SidecarContainers", "", true),
            ("EnvFiles", "BETA", true),
            ("SELinuxMount", "BETA", false),
            ("GitRepoVolumeDriver", "DEPRECATED", false),
            ("AllAlpha", "ALPHA", false),
        ] {
            assert!(all.contains(&gate), "{gate:?}");
        }
        for list in [STABLE, DEPRECATED, BETA_OFF] {
            for name in list.split_ascii_whitespace() {
                assert!(all.iter().any(|gate| gate.0 == name), "{name} is no gate");
            }
        }
    }

    #[test]
    fn knows_defaults_locks_and_strangers() {
        let none = BTreeMap::new();
        assert!(enabled(&none, "KubeletCrashLoopBackOffMax"));
        assert!(enabled(&none, "NodeSwap"));
        assert!(!enabled(&none, "EventedPLEG"));
        assert!(enabled(
            &BTreeMap::from([("EventedPLEG".to_owned(), true)]),
            "EventedPLEG"
        ));
        assert_eq!(refuse("EventedPLEG", true), None);
        assert_eq!(refuse("NodeSwap", true), None);
        assert!(refuse("NodeSwap", false).is_some_and(|text| text.contains("locked to true")));
        assert!(
            refuse("NoSuchGate", true)
                .is_some_and(|text| text.contains("unrecognized feature gate: NoSuchGate"))
        );
    }
}
