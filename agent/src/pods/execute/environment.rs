//! The objects that a container's environment comes from.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use futures::future::join_all;
use gantry_agent_core::env::{self, EnvError, Lookup, ServiceLink, ServicePort, Sources, Variable};

use super::Tools;
use crate::{
    objects::{self, ObjectError, Service},
    pods::spec::ContainerInput,
    report::Chain,
};

/// Where the API server's own service is, which every pod gets.
const DEFAULT_NAMESPACE: &str = "default";

impl Tools {
    /// Looks up what the container's variables refer to, and makes them.
    pub(super) async fn environment(&self, input: &ContainerInput<'_>) -> Result<Vec<Variable>, EnvError> {
        let namespace = input.pod.metadata.namespace.as_deref().unwrap_or_default();
        let names = env::references(input.container);
        let config_maps = look_up(&names.config_maps, |name| {
            self.objects.config_map(namespace, name)
        })
        .await;
        let secrets = look_up(&names.secrets, |name| self.objects.secret(namespace, name)).await;
        let services = self.service_links(namespace).await;
        let sources = Sources {
            config_maps: by_reference(&config_maps),
            secrets: by_reference(&secrets),
            services: Some(&services),
        };
        env::environment(input.container, input.facts(), &sources)
    }

    /// Of the pod's namespace and of the default one.
    async fn service_links(&self, namespace: &str) -> Vec<ServiceLink> {
        let mut links = links_of(namespace, &self.objects.services(namespace).await);
        if namespace != DEFAULT_NAMESPACE {
            links.extend(links_of(
                DEFAULT_NAMESPACE,
                &self.objects.services(DEFAULT_NAMESPACE).await,
            ));
        }
        links
    }
}

async fn look_up<'a, T, F>(
    names: &'a [String],
    get: impl Fn(&'a str) -> F,
) -> BTreeMap<String, Lookup<Arc<T>>>
where
    F: Future<Output = Result<Arc<T>, ObjectError>>,
{
    let answers = join_all(names.iter().map(|name| get(name))).await;
    let lookup = |answer| match answer {
        Ok(object) => Lookup::Found(object),
        Err(ObjectError::Missing { .. }) => Lookup::NotFound,
        Err(error) => Lookup::Failed(Chain(&error).to_string()),
    };
    names
        .iter()
        .cloned()
        .zip(answers.into_iter().map(lookup))
        .collect()
}

fn by_reference<T>(found: &BTreeMap<String, Lookup<Arc<T>>>) -> BTreeMap<String, Lookup<&T>> {
    let borrowed = found.iter().map(|(name, lookup)| {
        let lookup = match lookup {
            Lookup::Found(object) => Lookup::Found(object.as_ref()),
            Lookup::NotFound => Lookup::NotFound,
            Lookup::Failed(message) => Lookup::Failed(message.clone()),
        };
        (name.clone(), lookup)
    });
    borrowed.collect()
}

fn links_of(namespace: &str, services: &[Arc<Service>]) -> Vec<ServiceLink> {
    let port = |p: &objects::ServicePort| ServicePort {
        name: p.name.clone(),
        protocol: p.protocol.clone(),
        port: p.port,
    };
    let link = |service: &Arc<Service>| ServiceLink {
        namespace: namespace.to_owned(),
        name: service.name.clone(),
        cluster_ip: service.cluster_ip.clone(),
        ports: service.ports.iter().map(port).collect(),
    };
    services.iter().map(link).collect()
}
