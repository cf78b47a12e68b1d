//! Everything changes for a while, and connections that are open stay so: for seconds, or for `GANTRY_CHURN` of them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use gantry_proxy_core::{Event, Policy, Service};

use super::transitions::{
    Client, Traffic, change_under_traffic, random, some_backends, started, tcp, tcp_only,
};
use crate::host::Host;
use crate::objects::*;

const ECHO: &str = "10.96.0.9:90";
const ECHO_NODE_PORT: &str = "192.0.2.1:30090";
/// How long an answer on an open connection may take.
const PATIENCE: Duration = Duration::from_millis(900);
/// Changes of each client's turn at least, however slow the machine is.
const FEW: u32 = 10;
/// How long one client is busy before the other is.
const TURN: Duration = Duration::from_secs(10);
/// Connections that each client holds open.
const OPEN: usize = 8;

/// Sends back what comes, to each client on a thread of its own, until the process ends.
fn serve_echo(on: &Host) {
    let listener = on.run(|| TcpListener::bind(("0.0.0.0", 9090)).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream
                    .read_exact(&mut byte)
                    .and_then(|()| stream.write_all(&byte))
                    .is_ok()
                {}
            });
        }
    });
}

fn open(from: &Host, to: &str) -> Vec<TcpStream> {
    let connect = |_| {
        let stream = from.run(|| TcpStream::connect(to).unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    };
    (0..OPEN).map(connect).collect()
}

/// Asks on an open connection.
fn ask(mut stream: &TcpStream) {
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).expect("a connection stays open");
}

/// What changes with an update: endpoints of two services, policies, affinity, and other services.
fn change(update: u32) -> Vec<Event> {
    let policy = |n| {
        if random(n).is_multiple_of(2) {
            Policy::Cluster
        } else {
            Policy::Local
        }
    };
    let secs = [0, 0, 60, 3600][random(update ^ 7) as usize % 4];
    let other: Box<str> = format!("default/other-{}", random(update ^ 1) % 20).into();
    let address = format!("10.96.1.{}", random(update ^ 1) % 20);
    let mut events = vec![
        service(Service {
            affinity_secs: NonZeroU32::new(secs),
            external: policy(update ^ 2),
            internal: policy(update ^ 3),
            ..tcp_only(web())
        }),
        endpoints(&some_backends(update)),
        echo_slice(&some_backends(update ^ 4)),
    ];
    if random(update ^ 5).is_multiple_of(2) {
        events.push(Event::Service((&*other).into(), at(tcp_only(web()), &address)));
        events.push(slice_of(&other, A));
    } else {
        events.push(Event::ServiceGone((&*other).into()));
    }
    events
}

#[test]
fn connections_stay_open_while_everything_changes() {
    let time =
        std::env::var("GANTRY_CHURN").map_or(4, |secs| secs.parse().expect("GANTRY_CHURN is in seconds"));
    let mut rig = started(tcp_only(web()));
    serve_echo(&rig.a);
    serve_echo(&rig.b);
    rig.apply([Event::Service("default/echo".into(), echo()), echo_slice(&[A, B])]);
    let mut held = open(&rig.client, ECHO);
    held.extend(open(&rig.outside, ECHO_NODE_PORT));
    let end = Instant::now() + Duration::from_secs(time);
    let mut updates = 0;
    while updates == 0 || Instant::now() < end {
        for client in [Client::Pod, Client::Outside] {
            let traffic = Traffic {
                client,
                attempt: tcp,
                may_be_refused: false,
            };
            let turn = end.min(Instant::now() + TURN);
            let before = updates;
            updates += change_under_traffic(&mut rig, &traffic, |update| {
                let asked = (before + update) as usize;
                ask(&held[asked % held.len()]);
                (update <= FEW || Instant::now() < turn).then(|| change(before + update))
            });
        }
    }
    held.iter().for_each(ask);
    rig.check();
    println!(
        "{updates} changes in {time} s; {} connections stayed open",
        held.len()
    );
}
