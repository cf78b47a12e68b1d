//! Watches of the API server: one task for each kind of object, all into one channel.
//!
//! Streaming lists with bookmarks and the reference's selectors; after an outage each watch goes on by itself, with growing and
//! jittered pauses. Objects are reduced here, so that nothing of their full form is kept.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use futures::StreamExt;
use gantry_kubeapi::slim;
use gantry_proxy_core::{Event, Families, Family, Kind, Node, PerFamily};
use ipnetwork::IpNetwork;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::reduce;

/// Inputs in the channel: a burst of the initial list; a full one slows the reading down, nothing is lost.
const DEPTH: usize = 1024;

/// What the main loop is told.
#[derive(Debug)]
pub enum Input {
    /// A change of a service or slice, or of a list of them: what it is for each family that runs.
    Object(PerFamily<Option<Event>>),
    /// When the change behind an endpoint update of a family happened.
    Triggered(Family, SystemTime),
    /// A node is there, or gone.
    Node(Box<str>, Option<Node>),
    /// A ServiceCIDR is there, or gone.
    ServiceRanges(Box<str>, Option<Vec<IpNetwork>>),
    /// A list of nodes or service ranges starts; what it does not mention is gone when it ends.
    ListStart(Other),
    /// It is complete.
    ListEnd(Other),
}

/// Kinds that the core's state does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Other {
    /// Nodes.
    Node,
    /// ServiceCIDRs.
    ServiceRange,
}

type Sender = mpsc::Sender<Input>;

/// Starts the watches, one set for all families. They end with the receiver.
pub fn start(client: &Client, node_name: &str, families: Families) -> mpsc::Receiver<Input> {
    let (tx, rx) = mpsc::channel(DEPTH);
    let no_proxy_name = "!service.kubernetes.io/service-proxy-name";
    let not_headless = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";
    let config = || watcher::Config::default().streaming_lists();
    let own: Arc<str> = node_name.into();

    let services = config().labels(no_proxy_name).fields("spec.clusterIP!=None");
    tokio::spawn(follow(
        Api::<slim::Service>::all(client.clone()),
        services,
        tx.clone(),
        move |tx, event| send_service(tx, event, families),
    ));
    let slices = config().labels(not_headless);
    tokio::spawn(follow(
        Api::<slim::EndpointSlice>::all(client.clone()),
        slices,
        tx.clone(),
        move |tx, event| send_slice(tx, event, Arc::clone(&own), families),
    ));
    tokio::spawn(follow(
        Api::<slim::Node>::all(client.clone()),
        config(),
        tx.clone(),
        send_node,
    ));
    tokio::spawn(follow(
        Api::<slim::ServiceCidr>::all(client.clone()),
        config(),
        tx,
        send_range,
    ));
    rx
}

/// Follows one kind of object until nobody listens any more.
pub(crate) async fn follow<K, I, S, F>(api: Api<K>, config: watcher::Config, tx: mpsc::Sender<I>, send: S)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    S: Fn(mpsc::Sender<I>, watcher::Event<K>) -> F,
    F: Future<Output = Result<(), Closed>>,
{
    let kind = K::plural(&());
    let mut events = std::pin::pin!(watcher(api, config).backoff(gantry_kubeapi::WatchBackoff::default()));
    let mut failing = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if std::mem::take(&mut failing) {
                    info!(%kind, "watch goes on");
                }
                if send(tx.clone(), event).await.is_err() {
                    return;
                }
            }
            Err(error) if failing => debug!(%kind, error = chain(&error), "watch still fails"),
            Err(error) => {
                failing = true;
                warn!(%kind, error = chain(&error), "watch failed; trying again");
            }
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        // Some of the library's errors print their cause themselves.
        let cause = source.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = source.source();
    }
    text
}

/// Who was listening has ended.
#[derive(Debug)]
pub(crate) struct Closed;

/// Hands something over.
pub(crate) async fn push<I>(tx: &mpsc::Sender<I>, input: I) -> Result<(), Closed> {
    tx.send(input).await.map_err(|_| Closed)
}

/// An event of every family that runs.
fn of_all(families: Families, mut event: impl FnMut(Family) -> Event) -> Input {
    Input::Object(PerFamily::each(|family| {
        families.has(family).then(|| event(family))
    }))
}

async fn send_service(
    tx: Sender,
    event: watcher::Event<slim::Service>,
    families: Families,
) -> Result<(), Closed> {
    let input = match event {
        watcher::Event::Init => of_all(families, |_| Event::ListStart(Kind::Service)),
        watcher::Event::InitDone => of_all(families, |_| Event::ListEnd(Kind::Service)),
        watcher::Event::Delete(object) => {
            let key = reduce::key(&object);
            of_all(families, |_| Event::ServiceGone(Arc::clone(&key)))
        }
        watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
            let key = reduce::key(&object);
            of_all(families, |family| {
                match reduce::service(&object, family.is_ipv6()) {
                    Some(service) => Event::Service(Arc::clone(&key), service),
                    None => Event::ServiceGone(Arc::clone(&key)),
                }
            })
        }
    };
    push(&tx, input).await
}

/// A slice is of one family, for ever.
async fn send_slice(
    tx: Sender,
    event: watcher::Event<slim::EndpointSlice>,
    own: Arc<str>,
    families: Families,
) -> Result<(), Closed> {
    let (object, gone, trigger) = match event {
        watcher::Event::Init => {
            return push(&tx, of_all(families, |_| Event::ListStart(Kind::Slice))).await;
        }
        watcher::Event::InitDone => {
            return push(&tx, of_all(families, |_| Event::ListEnd(Kind::Slice))).await;
        }
        watcher::Event::Delete(object) => (object, true, None),
        // Changes from before the first list are old.
        watcher::Event::InitApply(object) => (object, false, None),
        watcher::Event::Apply(object) => {
            let time = object.trigger_time.as_deref().and_then(parse_time);
            (object, false, time)
        }
    };
    let Some(family) = Family::of_type(&object.address_type).filter(|family| families.has(*family)) else {
        return Ok(());
    };
    if let Some(time) = trigger {
        push(&tx, Input::Triggered(family, time)).await?;
    }
    let name = reduce::key(&object);
    let reduced = reduce::slice(&object, &own, family.is_ipv6()).filter(|_| !gone);
    let event = match (reduce::slice_service(&object), reduced) {
        (Some(service), Some(slice)) => Event::Slice { name, service, slice },
        (None, _) | (_, None) => Event::SliceGone(name),
    };
    let mut events = PerFamily::default();
    *events.of_mut(family) = Some(event);
    push(&tx, Input::Object(events)).await
}

fn parse_time(text: &str) -> Option<SystemTime> {
    text.parse::<k8s_openapi::jiff::Timestamp>()
        .ok()
        .map(SystemTime::from)
}

async fn send_node(tx: Sender, event: watcher::Event<slim::Node>) -> Result<(), Closed> {
    let name = |object: &slim::Node| object.metadata.name.clone().unwrap_or_default().into();
    let input = match event {
        watcher::Event::Init => Input::ListStart(Other::Node),
        watcher::Event::InitDone => Input::ListEnd(Other::Node),
        watcher::Event::Delete(object) => Input::Node(name(&object), None),
        watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
            Input::Node(name(&object), Some(reduce::node(&object)))
        }
    };
    push(&tx, input).await
}

async fn send_range(tx: Sender, event: watcher::Event<slim::ServiceCidr>) -> Result<(), Closed> {
    let name = |object: &slim::ServiceCidr| object.metadata.name.clone().unwrap_or_default().into();
    let input = match event {
        watcher::Event::Init => Input::ListStart(Other::ServiceRange),
        watcher::Event::InitDone => Input::ListEnd(Other::ServiceRange),
        watcher::Event::Delete(object) => Input::ServiceRanges(name(&object), None),
        watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
            Input::ServiceRanges(name(&object), Some(reduce::networks(&object.cidrs)))
        }
    };
    push(&tx, input).await
}
