//! Receiving and sending many datagrams per system call.
//!
//! The one module with `unsafe`: the standard library has no recvmmsg or sendmmsg, and one call per datagram costs
//! 15–25 % more processor time. Owns the buffers that the kernel writes into. Knows nothing of SIP.
#![allow(unsafe_code)]

use bytes::Bytes;
use socket2::{SockAddr, SockAddrStorage};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Datagrams per call: more gains nothing and costs latency.
pub const BATCH: usize = 32;
/// Largest datagram (UDP's own limit).
const LARGEST: usize = 65_535;

/// Buffers for one receive, reused.
pub struct ReceiveBuffers {
    data: Box<[u8]>,
    addresses: Vec<SockAddrStorage>,
}

impl Default for ReceiveBuffers {
    fn default() -> ReceiveBuffers {
        ReceiveBuffers {
            data: vec![0_u8; BATCH * LARGEST].into_boxed_slice(),
            addresses: (0..BATCH).map(|_| SockAddrStorage::zeroed()).collect(),
        }
    }
}

fn empty_header() -> libc::mmsghdr {
    // SAFETY: mmsghdr is a plain C structure of integers and pointers, for which all zero is a valid value.
    unsafe { std::mem::zeroed() }
}

/// An address in the kernel's form, without an allocation of its own.
#[derive(Clone, Copy)]
enum Address {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl Address {
    const NONE: Address = Address::V4(libc::sockaddr_in {
        sin_family: 0,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: 0 },
        sin_zero: [0; 8],
    });

    /// Pointer and length for a header. The kernel only reads through it; the C type has no const form.
    fn raw(&mut self) -> (*mut libc::c_void, libc::socklen_t) {
        match self {
            Address::V4(address) => ((&raw mut *address).cast(), socklen::<libc::sockaddr_in>()),
            Address::V6(address) => ((&raw mut *address).cast(), socklen::<libc::sockaddr_in6>()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        match address {
            SocketAddr::V4(v4) => Address::V4(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(v6) => Address::V6(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            }),
        }
    }
}

fn socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

/// Takes up to [`BATCH`] datagrams without waiting, and gives each to `take`.
///
/// # Errors
/// The system call's; `WouldBlock` if there is none.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffers: &mut ReceiveBuffers,
    mut take: impl FnMut(SocketAddr, &[u8]),
) -> io::Result<usize> {
    let mut vectors: [libc::iovec; BATCH] =
        std::array::from_fn(|_| libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 });
    let mut headers: [libc::mmsghdr; BATCH] = std::array::from_fn(|_| empty_header());
    for (i, chunk) in buffers.data.chunks_exact_mut(LARGEST).enumerate() {
        vectors[i] = libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: LARGEST };
        headers[i].msg_hdr.msg_iov = &raw mut vectors[i];
        headers[i].msg_hdr.msg_iovlen = 1;
        headers[i].msg_hdr.msg_name = (&raw mut buffers.addresses[i]).cast();
        headers[i].msg_hdr.msg_namelen = socklen::<SockAddrStorage>();
    }
    let count = libc::c_uint::try_from(BATCH).unwrap_or(1);
    // SAFETY: `headers` has `count` elements; each points to one vector of LARGEST writable bytes and to one address
    // storage of the stated length, all of which outlive the call; the descriptor is open as it is borrowed.
    let got = unsafe {
        libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
    };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    for (i, header) in headers.iter().take(got).enumerate() {
        let length = usize::try_from(header.msg_len).unwrap_or(0).min(LARGEST);
        let storage = std::mem::replace(&mut buffers.addresses[i], SockAddrStorage::zeroed());
        // SAFETY: the kernel filled the storage and stated its length, at most the one that was offered.
        let address = unsafe { SockAddr::new(storage, header.msg_hdr.msg_namelen) };
        if let Some(address) = address.as_socket() {
            take(address, &buffers.data[i * LARGEST..i * LARGEST + length]);
        }
    }
    Ok(got)
}

/// Sends up to [`BATCH`] datagrams without waiting; returns how many the system took (at least one).
///
/// # Errors
/// The system call's, which then concerns the first datagram; `WouldBlock` when the socket's buffer is full.
pub fn send(socket: BorrowedFd<'_>, batch: &[(SocketAddr, Bytes)]) -> io::Result<usize> {
    let batch = &batch[..batch.len().min(BATCH)];
    if batch.is_empty() {
        return Ok(0);
    }
    let mut addresses: [Address; BATCH] = [Address::NONE; BATCH];
    let mut vectors: [libc::iovec; BATCH] =
        std::array::from_fn(|_| libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 });
    let mut headers: [libc::mmsghdr; BATCH] = std::array::from_fn(|_| empty_header());
    for (i, (_, bytes)) in batch.iter().enumerate() {
        // The kernel only reads through this pointer; the C type has no const form.
        vectors[i] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        headers[i].msg_hdr.msg_iov = &raw mut vectors[i];
        headers[i].msg_hdr.msg_iovlen = 1;
        addresses[i] = Address::from(batch[i].0);
        (headers[i].msg_hdr.msg_name, headers[i].msg_hdr.msg_namelen) = addresses[i].raw();
    }
    let count = libc::c_uint::try_from(batch.len()).unwrap_or(1);
    // SAFETY: the first `count` headers each point to one vector over a live `Bytes` and to a live address of the stated
    // length; sendmmsg writes only `msg_len` of the headers; the descriptor is open as it is borrowed.
    let sent = unsafe {
        libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
