//! TCP connections by host name.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use smol::net::TcpStream;

use super::Resolver;
use super::deadline::within;
use super::resolver::ResolveError;

/// Time for one address. A SYN lost twice is repeated after 1 s and 3 s, so it still gets through.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(4);

/// Time for all addresses of a host together, after the look-up.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(8);

/// A silent connection is probed after this time, and dropped after [`KEEPALIVE_PROBES`] without
/// an answer. WhatsApp's own pings are faster; this is for whatever stops them.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// Sent data that stays unacknowledged for so long ends the connection, in milliseconds. The
/// kernel would try for a quarter of an hour.
const UNACKNOWLEDGED_LIMIT_MS: u32 = 45_000;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("no connection to `{host}` port {port} ({tried}); check the network")]
    Unreachable { host: String, port: u16, tried: String },
    #[error("no connection to `{host}` port {port} within {} s; check the network", DIAL_DEADLINE.as_secs())]
    Timeout { host: String, port: u16 },
}

/// Connects to the first address of `host` that accepts, in the resolver's order.
pub async fn connect(resolver: &Resolver, host: &str, port: u16) -> Result<TcpStream, DialError> {
    let addresses = resolver.lookup(host).await?;
    let attempts = async {
        let mut tried = Vec::new();
        for address in addresses {
            let address = SocketAddr::new(address, port);
            match within(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
                Some(Ok(stream)) => match tune(&stream) {
                    Ok(()) => return Ok(stream),
                    Err(error) => tried.push(format!("{address}: {error}")),
                },
                Some(Err(error)) => tried.push(format!("{address}: {error}")),
                None => tried.push(format!("{address}: silent")),
            }
        }
        Err(DialError::Unreachable { host: host.to_owned(), port, tried: tried.join(", ") })
    };
    within(DIAL_DEADLINE, attempts)
        .await
        .unwrap_or_else(|| Err(DialError::Timeout { host: host.to_owned(), port }))
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_LIMIT_MS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::net::TcpListener;

    #[test]
    fn a_connection_notices_a_dead_peer() {
        let executor = crate::executor::new();
        smol::block_on(executor.run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let resolver = Resolver::with_servers(executor, &[]);
            let port = listener.local_addr().unwrap().port();
            let stream = connect(&resolver, "127.0.0.1", port).await.unwrap();
            assert!(stream.nodelay().unwrap());
            assert!(sockopt::socket_keepalive(&stream).unwrap());
            assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), KEEPALIVE_IDLE);
            assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), UNACKNOWLEDGED_LIMIT_MS);
        }));
    }

    #[test]
    fn the_second_address_is_tried_when_the_first_refuses() {
        let executor = crate::executor::new();
        smol::block_on(executor.run(async {
            // `localhost` is 127.0.0.1, then ::1; only the latter listens.
            let Ok(listener) = TcpListener::bind("[::1]:0").await else {
                return; // a machine without IPv6 has no second address
            };
            let port = listener.local_addr().unwrap().port();
            let resolver = Resolver::with_servers(executor, &[]);
            let stream = connect(&resolver, "localhost", port).await.unwrap();
            assert!(stream.peer_addr().unwrap().is_ipv6());
        }));
    }

    #[test]
    fn a_refusal_names_host_port_and_cause() {
        let executor = crate::executor::new();
        smol::block_on(executor.run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            let resolver = Resolver::with_servers(executor, &[]);
            let error = connect(&resolver, "127.0.0.1", port).await.unwrap_err();
            assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains(&port.to_string()) && text.contains("refused"), "{text}");
        }));
    }
}
