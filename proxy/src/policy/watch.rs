//! Watches for network policies. Pods and namespaces of the whole cluster are watched once there is a policy, so that a cluster without
//! any pays for one idle watch.

use std::sync::Arc;

use gantry_kubeapi::slim;
use gantry_policy_core::{Event, Key};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::mpsc;

use super::reduce;
use crate::watch::{Closed, follow, push};

/// Inputs in the channel; a full one slows the reading down, nothing is lost.
const DEPTH: usize = 1024;

/// What the loop is told.
#[derive(Debug)]
pub(super) enum Input {
    /// An object is there, or is not.
    Object(Event),
    /// A list starts; what it does not mention is gone when it ends.
    ListStart(Kind),
    /// It is complete.
    ListEnd(Kind),
}

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Policy,
    Pod,
    Namespace,
}

/// The watches' side of the channel.
pub(super) struct Watches {
    client: Client,
    node_name: Arc<str>,
    tx: mpsc::Sender<Input>,
    follows_peers: bool,
}

impl Watches {
    /// Starts the watch of policies. All end with the receiver.
    pub(super) fn start(client: &Client, node_name: &str) -> (Self, mpsc::Receiver<Input>) {
        let (tx, rx) = mpsc::channel(DEPTH);
        tokio::spawn(follow(
            Api::<NetworkPolicy>::all(client.clone()),
            watcher::Config::default().streaming_lists(),
            tx.clone(),
            |tx, event| {
                send(tx, event, Kind::Policy, |object| match object {
                    Seen::There(object) => Event::Policy(reduce::key(&object), Some(reduce::policy(&object))),
                    Seen::Gone(object) => Event::Policy(reduce::key(&object), None),
                })
            },
        ));
        let watches = Self {
            client: client.clone(),
            node_name: node_name.into(),
            tx,
            follows_peers: false,
        };
        (watches, rx)
    }

    /// True once pods and namespaces are watched.
    pub(super) fn follows_peers(&self) -> bool {
        self.follows_peers
    }

    /// Starts the watches of pods and namespaces.
    pub(super) fn follow_peers(&mut self) {
        if std::mem::replace(&mut self.follows_peers, true) {
            return;
        }
        let config = || watcher::Config::default().streaming_lists();
        tokio::spawn(follow(
            Api::<slim::Namespace>::all(self.client.clone()),
            config(),
            self.tx.clone(),
            |tx, event| {
                send(tx, event, Kind::Namespace, |object| match object {
                    Seen::There(object) => {
                        Event::Namespace(reduce::key(&object).name, Some(reduce::labels(&object.labels)))
                    }
                    Seen::Gone(object) => Event::Namespace(reduce::key(&object).name, None),
                })
            },
        ));
        let own = Arc::clone(&self.node_name);
        tokio::spawn(follow(
            Api::<slim::Pod>::all(self.client.clone()),
            config(),
            self.tx.clone(),
            move |tx, event| {
                let own = Arc::clone(&own);
                send(tx, event, Kind::Pod, move |object| match object {
                    Seen::There(object) => Event::Pod(reduce::key(&object), reduce::pod(&object, &own)),
                    Seen::Gone(object) => Event::Pod(reduce::key(&object), None),
                })
            },
        ));
    }
}

/// An object of a watch.
enum Seen<K> {
    There(K),
    Gone(K),
}

async fn send<K>(
    tx: mpsc::Sender<Input>,
    event: watcher::Event<K>,
    kind: Kind,
    reduce: impl Fn(Seen<K>) -> Event,
) -> Result<(), Closed> {
    let input = match event {
        watcher::Event::Init => Input::ListStart(kind),
        watcher::Event::InitDone => Input::ListEnd(kind),
        watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
            Input::Object(reduce(Seen::There(object)))
        }
        watcher::Event::Delete(object) => Input::Object(reduce(Seen::Gone(object))),
    };
    push(&tx, input).await
}

/// Which object an event is about.
pub(super) fn subject(event: &Event) -> (Kind, Key) {
    match event {
        Event::Policy(key, _) => (Kind::Policy, key.clone()),
        Event::Pod(key, _) => (Kind::Pod, key.clone()),
        Event::Namespace(name, _) => (Kind::Namespace, Key::new("", name)),
    }
}

/// That an object is gone.
pub(super) fn gone(kind: Kind, key: Key) -> Event {
    match kind {
        Kind::Policy => Event::Policy(key, None),
        Kind::Pod => Event::Pod(key, None),
        Kind::Namespace => Event::Namespace(key.name, None),
    }
}
