//! The table at size, without an API server: `cargo bench -p gantry-proxy -- [services] [endpoints]`, as root.
//!
//! In a network namespace of its own: first load, one more service, one endpoint more or replaced, take-over after a restart, and
//! the memory that it all takes.

use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gantry_nft::Family;
use gantry_proxy::programmer::Programmer;
use gantry_proxy::table::{Layout, Masquerading, NodePorts, Pods};
use gantry_proxy_core::{
    Endpoint, EndpointState, Event, NodeFacts, Port, Protocol, Service, ServicePort, Slice,
};

const LAYOUT: Layout = Layout {
    family: Family::Ipv4,
    node_ports: NodePorts::Listed,
    masquerading: Masquerading::NotPods,
    pods: Pods::Ranges,
};
/// Changes of each kind, measured one by one.
const CHANGES: u32 = 300;
/// The first address of services and of endpoints.
const SERVICES: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
const ENDPOINTS: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 1);

fn main() -> Result<()> {
    let mut numbers = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse::<u32>().ok());
    let (services, endpoints) = (numbers.next().unwrap_or(10_000), numbers.next().unwrap_or(10));
    // SAFETY: this process has one thread; only its network namespace is unshared.
    #[allow(unsafe_code)]
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.context("needs root")?;

    let mut proxy = opened()?;
    for number in 0..services {
        service(&mut proxy, number);
        slice(&mut proxy, number, endpoints, 0);
    }
    let done = proxy.sync()?;
    println!(
        "{services} services x {endpoints} endpoints, {} elements",
        done.elements
    );
    println!(
        "first load            decisions {:.2?}, kernel {:.2?}",
        done.planning, done.writing
    );
    println!("resident memory       {} KiB", resident_kib()?);

    changes("one more service", &mut proxy, |proxy, i| {
        service(proxy, services + i);
        slice(proxy, services + i, endpoints, 0);
    })?;
    changes("one endpoint more", &mut proxy, |proxy, i| {
        slice(proxy, i % services, endpoints + 1, 0)
    })?;
    changes("one endpoint replaced", &mut proxy, |proxy, i| {
        slice(proxy, i % services, endpoints + 1, 1)
    })?;
    changes("one endpoint less", &mut proxy, |proxy, i| {
        slice(proxy, i % services, endpoints, 0)
    })?;
    changes("one service less", &mut proxy, |proxy, i| {
        proxy.apply(Event::ServiceGone(key(services + i).into()));
    })?;
    println!("resident memory       {} KiB", resident_kib()?);

    drop(proxy);
    let mut again = opened()?;
    for number in 0..services {
        service(&mut again, number);
        slice(&mut again, number, endpoints, 0);
    }
    let done = again.sync()?;
    println!(
        "take-over             {} elements changed, {:.2?}",
        done.elements,
        done.planning + done.writing
    );
    Ok(())
}

fn opened() -> Result<Programmer> {
    let mut proxy = Programmer::open(LAYOUT)?;
    proxy.set_facts(NodeFacts {
        pod_ranges: vec!["10.128.0.0/9".parse()?],
        service_ranges: vec!["10.96.0.0/12".parse()?],
        node_addresses: vec![Ipv4Addr::new(192, 0, 2, 1).into()],
        ..NodeFacts::default()
    });
    Ok(proxy)
}

/// Times changes one by one, from the event to the kernel's answer.
fn changes(name: &str, proxy: &mut Programmer, mut change: impl FnMut(&mut Programmer, u32)) -> Result<()> {
    let mut times = Vec::new();
    for i in 0..CHANGES {
        let start = Instant::now();
        change(proxy, i);
        proxy.sync()?;
        times.push(start.elapsed());
    }
    times.sort();
    let at = |percent: usize| {
        times
            .get(times.len() * percent / 100)
            .copied()
            .unwrap_or(Duration::ZERO)
    };
    println!("{name:<21} p50 {:.2?}, p99 {:.2?}", at(50), at(99));
    Ok(())
}

fn key(number: u32) -> String {
    format!("bench/service-{number}")
}

fn service(proxy: &mut Programmer, number: u32) {
    let port = ServicePort {
        name: "".into(),
        protocol: Protocol::Tcp,
        port: NonZeroU16::MIN.saturating_add(79),
        node_port: None,
    };
    let service = Service {
        cluster_ip: Some(Ipv4Addr::from_bits(SERVICES.to_bits() + number).into()),
        ports: [port].into(),
        ..Service::default()
    };
    proxy.apply(Event::Service(key(number).into(), service));
}

/// A service's endpoints; `shift` replaces the first of them.
fn slice(proxy: &mut Programmer, number: u32, count: u32, shift: u32) {
    let address = |i: u32| {
        let i = if i == 0 && shift > 0 { 99 } else { i };
        Ipv4Addr::from_bits(ENDPOINTS.to_bits() + number * 100 + i)
    };
    let endpoint = |i| {
        Endpoint::new(
            address(i).into(),
            EndpointState::Ready,
            i % 100 == 0 && number < 100,
        )
    };
    let slice = Slice {
        ports: [Port {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: NonZeroU16::MIN.saturating_add(8079),
        }]
        .into(),
        endpoints: (0..count).map(endpoint).collect(),
        ..Slice::default()
    };
    let name = format!("{}-1", key(number)).into();
    proxy.apply(Event::Slice {
        name,
        service: key(number).into(),
        slice,
    });
}

fn resident_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("VmRSS")?;
    line.split_whitespace()
        .next()
        .context("a number")?
        .parse()
        .context("a number")
}
