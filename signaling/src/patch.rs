//! PATCH on a session with a fragment (RFC 9725 section 4.3): more candidates, or an ICE restart.
//!
//! The entity tag names the ICE session that the client believes to be in. A fragment with other credentials than the client's
//! present ones begins a new one, whatever it calls itself (section 4.3.3).

use crate::{
    endpoint::{Call, Refused, no_session},
    error::Problem,
    http::{FRAGMENT_TYPE, Response},
    ice::{IceCredentials, IfMatch, TrickleFragment, entity_tag},
    media_plane::IceRestart,
    name::SessionId,
    sdp::{ICE_LINES, candidate_lines},
    token::Grant,
};

impl Call<'_> {
    /// 204 for candidates, 200 with a fragment of ours for a restart.
    pub(crate) fn patch_ice(&self, session: SessionId, grant: &Grant) -> Result<Response, Refused> {
        let fragment = self.body(FRAGMENT_TYPE, "Accept-Patch")?;
        let present = self.plane.ice_of(session, self.door.direction).ok_or_else(no_session)?;
        let if_match = self.check_precondition(&present.local)?;
        let fragment = TrickleFragment::parse(fragment).map_err(|error| {
            Problem::new(400, "malformed-fragment", "The body is not a valid SDP fragment", error.to_string())
        })?;
        // RFC 9725 section 4.3.3: other credentials than the present ones are a restart. With the present ones it is candidates, but for a
        // client that asks for its restart once more: while no path is nominated, one that knows no entity tag of it was not answered.
        let asked_again = present.is_restarting && if_match == IfMatch::Any;
        match &fragment.credentials {
            Some(credentials) if *credentials != present.remote || asked_again => {
                let response = self.restart_ice(session, &fragment, credentials)?;
                Ok(self.with_ice_servers(response, grant))
            }
            _ => Ok(self.add_candidates(session, fragment)),
        }
    }

    /// RFC 9725 section 4.3.1: 428 without an entity tag, 412 for another than the present one.
    fn check_precondition(&self, local: &IceCredentials) -> Result<IfMatch, Refused> {
        let current = entity_tag(local);
        let Some(if_match) = self.request.if_match else {
            let detail = format!(
                "send If-Match with the ETag of the 201 response or of the last ICE restart, {current} at the moment; \
                 or with * for an ICE restart"
            );
            return Err(Problem::new(428, "precondition-required", "If-Match is missing", detail).into());
        };
        match IfMatch::compare(if_match, &current) {
            IfMatch::Differs => {
                let detail = "If-Match names another ICE session than the present one: use the last ETag";
                Err(Problem::new(412, "old-ice-session", "The ICE session has changed", detail).into())
            }
            fits => Ok(fits),
        }
    }

    /// RFC 9725 section 4.3.2: 204, and no ETag.
    fn add_candidates(&self, session: SessionId, fragment: TrickleFragment) -> Response {
        if !fragment.candidates.is_empty() {
            self.plane.add_candidates(session, fragment.candidates);
        }
        Response::new(204).of_session(session)
    }

    /// RFC 9725 section 4.3.3.
    fn restart_ice(
        &self,
        session: SessionId,
        fragment: &TrickleFragment,
        credentials: &IceCredentials,
    ) -> Result<Response, Refused> {
        let restart = self.plane.restart_ice(session, self.door.direction, credentials.clone())?;
        if !fragment.candidates.is_empty() {
            self.plane.add_candidates(session, fragment.candidates.clone());
        }
        let mut response = Response::new(200)
            .header("Content-Type", FRAGMENT_TYPE)
            .header("ETag", entity_tag(&restart.ice))
            .of_session(session);
        response.body = answering_fragment(fragment, &restart).into_bytes();
        Ok(response)
    }
}

/// Our side of a restart (RFC 8840 section 4.4), in the client's own section: with everything bundled it has one.
fn answering_fragment(request: &TrickleFragment, restart: &IceRestart) -> String {
    let mut lines: Vec<String> = ICE_LINES.iter().map(|line| (*line).into()).collect();
    let echoed = [("a=group:", &request.group), ("m=", &request.media), ("a=mid:", &request.mid)]
        .into_iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}{value}")));
    lines.extend(echoed);
    lines.push(format!("a=ice-ufrag:{}", restart.ice.ufrag));
    lines.push(format!("a=ice-pwd:{}", restart.ice.pwd));
    lines.extend(candidate_lines(&restart.candidates));
    lines.push("a=end-of-candidates\r\n".into());
    lines.join("\r\n")
}
