//! Comparison of both copies at one position.
//!
//! Owns the exchange and the ranges that differ. A copy that is behind compares when it gets there; one that is ahead looks
//! back in its history.

use crate::frame::Frame;
use crate::ids::Position;
use crate::instance::{Cx, Instance};
use crate::io::{HostOutput, Role};

impl Instance {
    /// Asks for a comparison; answered by `Verified`.
    pub(crate) fn verify(&mut self, cx: &mut Cx<'_>) {
        if self.role() == Role::Active {
            self.source.asked = true;
            self.send_verify(cx);
        } else {
            self.sink.verify_asked = true;
            cx.send(Frame::VerifyAsk { group: self.group });
        }
    }

    /// Sends this copy's digests.
    pub(crate) fn send_verify(&mut self, cx: &mut Cx<'_>) {
        cx.send(Frame::Verify {
            group: self.group,
            position: self.state.position,
            digest: self.state.digest.total(),
            ranges: self.state.digest.ranges(),
        });
    }

    /// The partner's digests arrived.
    pub(crate) fn on_verify(&mut self, cx: &mut Cx<'_>, position: Position, digest: [u8; 32], ranges: Vec<[u8; 32]>) {
        if position > self.state.position {
            self.sink.verify = Some((position, digest, ranges));
            return;
        }
        if position == self.state.position {
            self.compared(cx, position, digest == self.state.digest.total(), &ranges);
            return;
        }
        if let Some((_, had)) = self.history.iter().find(|(at, _)| *at == position) {
            let equal = *had == digest;
            self.compared(cx, position, equal, &ranges);
        }
    }

    /// Compares if this copy has reached the position that it was asked to compare at.
    pub(super) fn compare_when_there(&mut self, cx: &mut Cx<'_>) {
        let Some((position, digest, ranges)) = self.sink.verify.take_if(|(at, ..)| *at <= self.state.position) else {
            return;
        };
        self.on_verify(cx, position, digest, ranges);
    }

    fn compared(&mut self, cx: &mut Cx<'_>, position: Position, equal: bool, theirs: &[[u8; 32]]) {
        let ranges = if equal { Vec::new() } else { self.state.digest.differing(theirs) };
        if equal {
            self.verified = Some((position, cx.now.wall));
        } else {
            self.sink.import_error = true;
        }
        if std::mem::take(&mut self.sink.verify_asked) {
            let ranges = ranges.clone();
            cx.out.push_back(HostOutput::Verified { group: self.group, position, equal, ranges });
        }
        cx.send(Frame::VerifyResult { group: self.group, position, equal, ranges });
    }

    /// The partner has compared.
    pub(crate) fn on_verify_result(&mut self, cx: &mut Cx<'_>, position: Position, equal: bool, ranges: Vec<u16>) {
        if equal {
            self.verified = Some((position, cx.now.wall));
        }
        if std::mem::take(&mut self.source.asked) {
            cx.out.push_back(HostOutput::Verified { group: self.group, position, equal, ranges });
        }
    }
}
