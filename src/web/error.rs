//! Why the page or the socket is not there. The text of each variant reads `WHAT; WHAT TO DO`, as for sources.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::status::what_and_remedy;

/// What is in the way of listening.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// Another program listens there.
    #[error("the page's address {address} is in use; stop who uses it (`ss -tlnp` names it), or set another one in [http] listen")]
    AddressInUse {
        /// As configured.
        address: SocketAddr,
    },
    /// The address is not ours, or not allowed.
    #[error("the page can't be served on {address}; set an address of this gateway in [http] listen, with a port above 1023")]
    Address {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another agent answers.
    #[error("another program answers on the socket {}; stop it, or set another path in [device] socket", path.display())]
    SocketInUse {
        /// As configured.
        path: PathBuf,
    },
    /// There is something else under that name, and it is not ours to delete.
    #[error("{} exists and is no socket; move it away, or set another path in [device] socket", path.display())]
    NotASocket {
        /// As configured.
        path: PathBuf,
    },
    /// The folder is missing, or we may not write to it.
    #[error("the socket {} can't be made; create its folder for the user that runs headwater, or set another path in [device] socket", path.display())]
    Socket {
        /// As configured.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl WebError {
    /// What is wrong, with its cause; and what to do about it.
    pub fn what_and_remedy(&self) -> (String, String) {
        what_and_remedy(self)
    }
}
