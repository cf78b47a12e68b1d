//! Queues that limit bandwidth (tc-tbf(8)) and the way of a pod's packets through one of them (ifb, tc-mirred(8)).

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REQUEST, Nla, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirror, TcActionMirrorOption, TcActionOption, TcActionType,
    TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption,
    TcU32Key, TcU32Selector, TcU32SelectorFlags,
};
use rustix::io::Errno;

use super::{Netlink, NetlinkError};
use crate::bandwidth::Bucket;
use crate::owner::Mac;

const TBF: &str = "tbf";
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// As the stock plugin: `1:` for the queue and `ffff:` for the ingress hook.
const QUEUE: TcHandle = TcHandle { major: 1, minor: 0 };
const HOOK: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0,
};
/// `ETH_P_ALL`: packets of every protocol.
const EVERY_PROTOCOL: u16 = 3;
const FIRST: u32 = 1 << 16;

impl Netlink {
    /// Makes an ifb, up.
    pub(crate) fn create_ifb(&mut self, name: &str, mac: Mac, mtu: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
        ];
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change(RouteNetlinkMessage::NewLink(message), flags, || {
            format!("create the interface {name} of kind ifb")
        })
    }

    /// Limits what leaves an interface.
    pub(crate) fn shape(&mut self, index: u32, bucket: Bucket) -> Result<(), NetlinkError> {
        let mut options = vec![
            option(TCA_TBF_PARMS, bucket.parms()),
            option(TCA_TBF_BURST, bucket.burst_bytes().to_ne_bytes().to_vec()),
        ];
        let rate = bucket.rate_bytes();
        if rate > u64::from(u32::MAX) {
            options.push(option(TCA_TBF_RATE64, rate.to_ne_bytes().to_vec()));
        }
        let mut message = on(index, QUEUE, TcHandle::ROOT);
        message.attributes = vec![TcAttribute::Kind(TBF.to_owned()), TcAttribute::Options(options)];
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change(RouteNetlinkMessage::NewQueueDiscipline(message), flags, || {
            format!("limit what leaves the interface number {index} to {rate} bytes a second")
        })
    }

    /// Whether what leaves an interface is limited like this.
    pub(crate) fn is_shaped(&mut self, index: u32, bucket: Bucket) -> Result<bool, NetlinkError> {
        let message = on(index, TcHandle::UNSPEC, TcHandle::ROOT);
        // The kernel tells everybody who listens for changes of queues, and only with this flag the one who asked.
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_ECHO;
        let answers = self.converse(RouteNetlinkMessage::GetQueueDiscipline(message), flags, &|| {
            format!("look up the queue of the interface number {index}")
        });
        Ok(found(answers)?.iter().any(|answer| match answer {
            RouteNetlinkMessage::NewQueueDiscipline(queue) => is_tbf(queue, bucket),
            _ => false,
        }))
    }

    /// Makes the hook for what arrives at an interface.
    pub(crate) fn add_ingress(&mut self, index: u32) -> Result<(), NetlinkError> {
        let mut message = on(index, HOOK, TcHandle::INGRESS);
        message.attributes = vec![TcAttribute::Kind("ingress".to_owned())];
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change(RouteNetlinkMessage::NewQueueDiscipline(message), flags, || {
            format!("hook what arrives at the interface number {index}")
        })
    }

    /// Sends all that arrives at one interface out of another one. Needs the hook.
    pub(crate) fn redirect(&mut self, from: u32, to: u32) -> Result<(), NetlinkError> {
        let mut mirror = TcMirror::default();
        mirror.generic.action = TcActionType::Stolen;
        mirror.eaction = TcMirrorActionType::EgressRedir;
        mirror.ifindex = to;
        let mut action = TcAction::default();
        action.attributes = vec![
            TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
            TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))]),
        ];
        // One key without mask: everything.
        let mut selector = TcU32Selector::default();
        selector.flags = TcU32SelectorFlags::Terminal;
        selector.nkeys = 1;
        selector.keys = vec![TcU32Key::default()];
        let mut message = on(from, TcHandle::UNSPEC, HOOK);
        message.header.info = FIRST | u32::from(EVERY_PROTOCOL.to_be());
        message.attributes = vec![
            TcAttribute::Kind(TcFilterU32::KIND.to_owned()),
            TcAttribute::Options(vec![
                TcOption::U32(TcFilterU32Option::Selector(selector)),
                TcOption::U32(TcFilterU32Option::Action(vec![action])),
            ]),
        ];
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change(RouteNetlinkMessage::NewTrafficFilter(message), flags, || {
            format!("send what arrives at the interface number {from} through number {to}")
        })
    }

    /// Whether all that arrives at one interface is sent out of another one.
    pub(crate) fn is_redirected(&mut self, from: u32, to: u32) -> Result<bool, NetlinkError> {
        let message = on(from, TcHandle::UNSPEC, HOOK);
        let answers = self.dump(RouteNetlinkMessage::GetTrafficFilter(message), || {
            format!("list the filters of the interface number {from}")
        });
        Ok(found(answers)?.iter().any(|answer| match answer {
            RouteNetlinkMessage::NewTrafficFilter(filter) => leads_to(filter, to),
            _ => false,
        }))
    }
}

fn on(index: u32, handle: TcHandle, parent: TcHandle) -> TcMessage {
    // The kernel counts interfaces in an `int`, from one on.
    let mut message = TcMessage::with_index(i32::try_from(index).unwrap_or_default());
    message.header.handle = handle;
    message.header.parent = parent;
    message
}

fn option(kind: u16, value: Vec<u8>) -> TcOption {
    TcOption::Other(DefaultNla::new(kind, value))
}

/// An interface without the queue or hook has nothing to list.
fn found(
    answers: Result<Vec<RouteNetlinkMessage>, NetlinkError>,
) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
    match answers {
        Err(error) if matches!(error.kernel_reason(), Some(Errno::NOENT | Errno::INVAL)) => Ok(Vec::new()),
        answers => answers,
    }
}

fn is_tbf(queue: &TcMessage, bucket: Bucket) -> bool {
    let (mut kind, mut parms, mut rate64) = ("", Vec::new(), None);
    for attribute in &queue.attributes {
        match attribute {
            TcAttribute::Kind(name) => kind = name,
            // The parser does not know this kind: one attribute, with the options inside.
            TcAttribute::Options(options) => {
                let bytes: Vec<u8> = options.iter().flat_map(value).collect();
                for nla in NlasIterator::new(&bytes).flatten() {
                    match nla.kind() {
                        TCA_TBF_PARMS => parms = nla.value().to_vec(),
                        TCA_TBF_RATE64 => rate64 = nla.value().try_into().ok().map(u64::from_ne_bytes),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    kind == TBF && bucket.is(&parms, rate64)
}

fn value(option: &TcOption) -> Vec<u8> {
    let mut bytes = vec![0; option.value_len()];
    option.emit_value(&mut bytes);
    bytes
}

fn leads_to(filter: &TcMessage, to: u32) -> bool {
    let options = filter.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    let actions = options.flatten().filter_map(|option| match option {
        TcOption::U32(TcFilterU32Option::Action(actions)) => Some(actions),
        _ => None,
    });
    let attributes = actions.flatten().flat_map(|action| &action.attributes);
    let mut options = attributes.filter_map(|attribute| match attribute {
        TcActionAttribute::Options(options) => Some(options),
        _ => None,
    });
    options.any(|options| {
        options.iter().any(|option| match option {
            TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror)) => {
                mirror.ifindex == to && mirror.eaction == TcMirrorActionType::EgressRedir
            }
            _ => false,
        })
    })
}
