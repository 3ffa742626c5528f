//! Who may begin a flow towards whom, and under whose address.

use pontoon_nat::{Pending, SourceNat};

use crate::config::{Egress, Isolation, NetworkConfig, NetworkId};
use crate::datapath::Datapath;
use crate::drop::DropReason;
use crate::route::InterfaceId;

impl Datapath {
    /// Whether a new flow may go from one interface to the other, and whose name it bears there.
    pub(crate) fn policy(
        &self,
        from: InterfaceId,
        to: InterfaceId,
        pending: &Pending,
    ) -> Result<SourceNat, DropReason> {
        match (from, to) {
            (InterfaceId::Network(from), InterfaceId::Network(to)) => {
                self.between(from, to, pending)
            }
            (InterfaceId::Network(id), InterfaceId::Uplink(_)) => self.outward(id, to),
            (InterfaceId::Uplink(_), InterfaceId::Network(id)) => self.inward(id, pending),
            (InterfaceId::Network(id), InterfaceId::User) => {
                match self.network_config(id)?.egress {
                    Egress::Masqueraded | Egress::Untranslated => Ok(SourceNat::Relayed),
                    Egress::Closed => Err(DropReason::Isolated),
                }
            }
            (InterfaceId::User, InterfaceId::Network(_)) => Ok(SourceNat::Relayed),
            _ => Err(DropReason::Isolated),
        }
    }

    /// From container to container by way of the gateway: published ports, and what could have gone by the
    /// bridge.
    fn between(
        &self,
        from: NetworkId,
        to: NetworkId,
        pending: &Pending,
    ) -> Result<SourceNat, DropReason> {
        let config = self.network_config(from)?;
        if from != to && config.egress == Egress::Closed {
            return Err(DropReason::Isolated);
        }
        if pending.is_published() {
            return Ok(SourceNat::Fixed(self.network_config(to)?.gateway));
        }
        if from == to && config.isolation == Isolation::Off {
            Ok(SourceNat::Keep)
        } else {
            Err(DropReason::Isolated)
        }
    }

    fn outward(&self, from: NetworkId, uplink: InterfaceId) -> Result<SourceNat, DropReason> {
        match self.network_config(from)?.egress {
            Egress::Masqueraded => self
                .address_of(uplink)
                .map(SourceNat::Masquerade)
                .ok_or(DropReason::NoRoute),
            Egress::Untranslated => Ok(SourceNat::Keep),
            Egress::Closed => Err(DropReason::Isolated),
        }
    }

    /// From outside to a published port. A container without a way out answers its gateway alone.
    fn inward(&self, to: NetworkId, pending: &Pending) -> Result<SourceNat, DropReason> {
        if !pending.is_published() {
            return Err(DropReason::Isolated);
        }
        let config = self.network_config(to)?;
        match config.egress {
            Egress::Masqueraded | Egress::Untranslated => Ok(SourceNat::Keep),
            Egress::Closed => Ok(SourceNat::Fixed(config.gateway)),
        }
    }

    fn network_config(&self, id: NetworkId) -> Result<&NetworkConfig, DropReason> {
        let network = self.networks.get(&id).ok_or(DropReason::NoRoute)?;
        Ok(&network.config)
    }
}
