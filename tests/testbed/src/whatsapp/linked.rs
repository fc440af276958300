//! For tests of the server's parts: an account with a companion, in the place of a client.

use rand::SeedableRng;
use rand::rngs::StdRng;
use wacore_binary::Node;

use super::accounts::{Companion, CompanionKeys, DeviceAddress};
use super::prekeys::bundle_children;
use super::stanza::node;
use super::world::{Outgoing, Peer, SocketId, World};
use crate::phone::{KeyBundle, Phone};

/// Keys that it uploads: so many that nobody asks for more.
const ONE_TIME_KEYS: usize = 20;

pub const COMPANION: DeviceAddress = DeviceAddress { account: 0, device: 1 };

/// Ani's account with a companion that is online. What a companion must be able to do, a phone can.
pub struct Linked {
    pub world: World,
    pub companion: Phone,
    pub socket: SocketId,
    out: async_channel::Receiver<Outgoing>,
}

impl Linked {
    pub fn new() -> Linked {
        let mut rng = StdRng::seed_from_u64(1);
        let mut companion = Phone::new(&mut rng);
        let mut world = World::new(rng);
        world.account_named("Ani");
        let KeyBundle { registration_id, identity, signed, .. } = companion.key_bundle();
        let keys = CompanionKeys { registration_id, identity, signed, one_time: Default::default() };
        let (sender, out) = World::socket_queue();
        let socket = world.open_socket(sender, Peer::Device(COMPANION));
        let mut linked = Companion::new([0; 32], 1, Vec::new(), keys);
        linked.socket = Some(socket);
        linked.drained = true;
        world.accounts[0].companions.insert(COMPANION.device, linked);
        Linked { world, companion, socket, out }
    }

    /// What the server wrote since the last look.
    pub fn written(&mut self) -> Vec<Node> {
        let written = std::iter::from_fn(|| self.out.try_recv().ok());
        written.filter_map(|it| if let Outgoing::Stanza(stanza) = it { Some(stanza) } else { None }).collect()
    }

    pub fn asks(&mut self, kind: &'static str, children: Vec<Node>) -> Vec<Node> {
        let iq = node("iq").attr("id", "1").attr("type", kind).attr("xmlns", "encrypt");
        self.world.on_iq(self.socket, COMPANION, &iq.children(children).build());
        self.world.settle();
        self.written()
    }

    /// Uploads keys. Gives the id of the first for one time, and what the server wrote.
    pub fn uploads(&mut self) -> (u32, Vec<Node>) {
        let bundles: Vec<KeyBundle> = (0..ONE_TIME_KEYS).map(|_| self.companion.key_bundle()).collect();
        let one_time = bundles.iter().filter_map(|bundle| bundle_children(bundle).pop()).collect::<Vec<_>>();
        let mut children = bundle_children(&KeyBundle { one_time: None, ..bundles[0].clone() });
        children.push(node("list").children(one_time).build());
        (bundles[0].one_time.expect("a phone always has one").0, self.asks("set", children))
    }
}
